"""Allocates and frees small objects at full speed, for ever: a target that never rests.

It ends with its stdin.
"""

import os
import threading

import serve


def end_with_stdin():
    while os.read(0, 4096):
        pass
    os._exit(0)


def churn():
    window = [None] * 50000
    i = 0
    while True:
        window[i * 7919 % 50000] = b"x" * (i * 31 % 500)
        window[i * 104729 % 50000] = None
        i += 1


threading.Thread(target=end_with_stdin, daemon=True).start()
serve.ready()
churn()
