"""A trace function has a waiting frame go on at another line, and allocates in calls of its own."""
import sys


def allocate(frame):
    frame.f_lineno += 1
    return [object() for _ in range(5)], [1.5 * i for i in range(5)], {}


def deeper(frame, n):
    return allocate(frame) if n == 0 else deeper(frame, n - 1)


def tracer(frame, event, arg):
    if frame.f_code is jumps.__code__ and event == "line" and frame.f_lineno == FIRST + 1:
        # A debugger that debugs: no trace function runs then, for the interpreter.
        sys.call_tracing(deeper, (frame, 3)) if called else deeper(frame, 3)
    return tracer


def jumps():
    a = 1
    a = 2
    a = 3
    return a


FIRST = jumps.__code__.co_firstlineno
for called in (False, True):
    sys.settrace(tracer)
    jumps()
    jumps()
    sys.settrace(None)
