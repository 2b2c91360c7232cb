"""given.py [agent] [blocked]: memory that can be given back, and questions about what should not change.

Runs Python all the while, a little of it every 20 ms; `blocked`: waits for its questions in C. `agent`: loads the agent
that PYDEFRAG_AGENT names, and starts it.

    digest      of all data, modules, paths and threads that the program can see
    hold S      holds the GIL in C for so many seconds, after it has answered
"""

import ctypes
import hashlib
import os
import select
import sys
import threading

import serve

if "agent" in sys.argv:
    import agent

    agent.call("start")

objects = [(b"%09d" % i) + b"x" * (1, 30, 60, 100, 150, 220, 300, 400, 470)[i % 9] for i in range(150000)]
survivors = [o for i, o in enumerate(objects) if i % 101 == 0]
del objects


def digest():
    seen = (survivors, sorted(sys.modules), sys.path, threading.active_count(), sorted(globals()), sys.argv)
    os.write(1, hashlib.sha256(repr(seen).encode()).hexdigest().encode() + b"\n")


held = ctypes.PyDLL(None)
for_a_while = []


def hold(seconds):
    for_a_while.append(int(float(seconds) * 1e6))


questions = {"digest": digest, "hold": hold}
serve.rehearse(questions, ["digest"])
serve.ready()
while True:
    if "blocked" not in sys.argv and not select.select([0], [], [], 0.02)[0]:
        continue
    line = os.read(0, 4096)
    if line in (b"", b"quit\n"):
        break
    serve.answer(line, questions)
    while for_a_while:
        held.usleep(for_a_while.pop())
