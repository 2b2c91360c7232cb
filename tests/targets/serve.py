"""Says READY and answers questions, one per line, until stdin ends.

Questions are read with os.read and answered with os.write, and every question is asked once before
READY, so that a target blocked in its read has within a few blocks the heap that it describes.
An answer is some lines and then the line END. This runs on 3.8 and everything later.

    stats       sys._debugmallocstats()
    blocks      sys.getallocatedblocks()
    eval EXPR   str() of an expression, in the namespace of the script
    console SO  the console of malloc_truth.c answers from here on, until it is told q
    quit        leave

A script adds its own questions: serve.serve({"name": function}, also=["name 1"]); the function gets
the words after the name, and the questions in `also` are asked before READY too.
"""

import gc
import os
import sys


def stats():
    sys._debugmallocstats()


def blocks():
    os.write(1, b"%d\n" % sys.getallocatedblocks())


def evaluate(*words):
    value = eval(" ".join(words), sys.modules["__main__"].__dict__)
    os.write(1, ("%s\n" % (value,)).encode())


def console(library):
    import ctypes

    ctypes.CDLL(library).console()


# The plain questions are found by their whole line: no splitting, no allocation.
PLAIN = {b"stats\n": stats, b"blocks\n": blocks}


def answer(line, extra):
    ask = PLAIN.get(line)
    if ask is not None:
        # _debugmallocstats writes to C's stderr; for the time of an answer that is stdout.
        os.dup2(1, 2)
        ask()
        os.dup2(ERRORS, 2)
    else:
        words = line.decode().split()
        os.dup2(1, 2)
        try:
            dict(extra, eval=evaluate, console=console)[words[0]](*words[1:])
        finally:
            os.dup2(ERRORS, 2)
    os.write(1, b"END\n")


def answer_all(extra):
    while True:
        line = os.read(0, 4096)
        if line == b"" or line == b"quit\n":
            return
        answer(line, extra)


def rehearse(extra, also):
    """Asks the plain questions, and the ones in `also`, through a pipe, so that whatever is made once is made before READY."""
    stdin, stdout = os.dup(0), os.dup(1)
    questions, end = os.pipe()
    nowhere = os.memfd_create("nowhere")
    os.dup2(questions, 0)
    os.dup2(nowhere, 1)
    for _ in range(10):
        for line in list(PLAIN) + [question.encode() + b"\n" for question in also]:
            os.write(end, line)
            answer(os.read(0, 4096), extra)
    os.write(end, b"quit\n")
    answer_all(extra)
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    for fd in (stdin, stdout, questions, end, nowhere):
        os.close(fd)


def ready():
    os.write(1, b"READY %d\n" % os.getpid())


def serve(extra={}, also=()):
    gc.collect()
    gc.disable()
    rehearse(extra, also)
    ready()
    answer_all(extra)


ERRORS = os.dup(2)
