"""traced.py FRAMES: a program that traces its allocations. Questions beside those of serve.py:

    tuples    the line that 1,000 tuples were made on, as tracemalloc says it, then their addresses
    strings   the same of 500 strings
    lines     for each line of this file: its number and how many traced blocks were made there
    traces    how many traced blocks there are
    track     traces 200 addresses in another domain; answers like tuples
"""

import gc
import os
import sys
import tracemalloc

import serve

# What comes from a free list that was filled before is not traced.
gc.collect()
tracemalloc.start(int(sys.argv[1]))


def make_tuples():
    return [(i, None, i) for i in range(1000)]


def make_strings():
    return ["a string of %d" % i for i in range(500)]


TUPLES = make_tuples()
STRINGS = make_strings()


def say(line, addresses):
    os.write(1, ("%d %s\n" % (line, " ".join(map(str, addresses)))).encode())


def say_traced(all):
    traced = {one: tracemalloc.get_object_traceback(one) for one in all}
    traced = {one: where[-1].lineno for one, where in traced.items() if where}
    assert len(traced) > 0.9 * len(all), len(traced)
    assert len(set(traced.values())) == 1, set(traced.values())
    say(max(traced.values()), map(id, traced))


def tuples():
    say_traced(TUPLES)


def strings():
    say_traced(STRINGS)


def lines():
    here = tracemalloc.Filter(True, __file__)
    for found in tracemalloc.take_snapshot().filter_traces([here]).statistics("lineno"):
        os.write(1, b"%d %d\n" % (found.traceback[0].lineno, found.count))


def traces():
    os.write(1, b"%d\n" % len(tracemalloc.take_snapshot().traces))


def track():
    import ctypes

    function = ctypes.pythonapi.PyTraceMalloc_Track
    function.argtypes = (ctypes.c_uint, ctypes.c_size_t, ctypes.c_size_t)
    addresses = range(0x12340000, 0x12340000 + 200 * 64, 64)
    line = sys._getframe().f_lineno + 1
    failed = [function(7, address, 50) for address in addresses]
    assert not any(failed), failed
    say(line, addresses)


serve.serve({"tuples": tuples, "strings": strings, "lines": lines, "traces": traces, "track": track})
