"""subinterpreters.py [N]: two more interpreters in the process, with N small objects in each.

Where the version can, each has a GIL and a pymalloc of its own (3.12 and later); before, they share
the main interpreter's. Questions beside those of serve.py:

    substats K   sys._debugmallocstats() inside interpreter K (0 or 1)
    subblocks K  sys.getallocatedblocks() there
    isolated     1 where they have a pymalloc of their own, else 0
"""

import os
import sys

import serve

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 50000

try:
    import _interpreters
except ImportError:
    import _xxsubinterpreters as _interpreters

SETUP = """
import os, sys
def stats():
    sys._debugmallocstats()
def blocks():
    os.write(1, b"%%d\\n" %% sys.getallocatedblocks())
objects = [b"x" * (i * 37 %% 480) + b"%%09d" %% i for i in range(%d)]
survivors = objects[::10]
del objects
"""


def create():
    if sys.version_info >= (3, 13):
        return _interpreters.create("isolated")
    return _interpreters.create()


def run(interpreter, source):
    failure = _interpreters.run_string(interpreter, source)
    if failure is not None:
        raise RuntimeError(failure)


def substats(k):
    run(interpreters[int(k)], "stats()")


def subblocks(k):
    run(interpreters[int(k)], "blocks()")


def isolated():
    os.write(1, b"%d\n" % (sys.version_info >= (3, 12)))


interpreters = [create(), create()]
for interpreter in interpreters:
    run(interpreter, SETUP % COUNT)
del interpreter

questions = {"substats": substats, "subblocks": subblocks, "isolated": isolated}
serve.serve(questions, also=["substats 0", "substats 1", "subblocks 0", "subblocks 1"])
