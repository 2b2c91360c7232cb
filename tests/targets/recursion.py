"""recursion.py [N]: a main thread that is N calls deep, and another thread beside it."""

import sys
import threading

import serve

DEPTH = int(sys.argv[1]) if len(sys.argv) > 1 else 1000

sys.setrecursionlimit(DEPTH + 1000)
forever = threading.Event()
begun = threading.Event()


def worker():
    survivors = ["survivor"]
    begun.set()
    forever.wait()
    return survivors


def deep(left):
    if left:
        deep(left - 1)
    else:
        serve.serve()


threading.Thread(target=worker, daemon=True).start()
begun.wait()
deep(DEPTH)
