"""package.py: a program that uses the package pydefrag; of many rows it keeps few, which pin their pools.

    work    makes as many rows once more, and drops them
"""

import json
import os
import sys

import pydefrag
import serve


def rows():
    return [("row-%08d" % i, float(i)) for i in range(300000)]


def work():
    rows()


def refusal(call, *args, **named):
    """What a call is refused with."""
    try:
        return "not refused: %s" % (call(*args, **named),)
    except pydefrag.Refused as why:
        return str(why)


def panics():
    from pydefrag._call import call

    return refusal(call, "panic")


def in_another_interpreter(path):
    """What an import of pydefrag says in a subinterpreter."""
    code = "try:\n import pydefrag\nexcept ImportError as e:\n open(%r, 'w').write(str(e))" % path
    if sys.version_info >= (3, 13):
        import _interpreters as interpreters
    else:
        import _xxsubinterpreters as interpreters
    other = interpreters.create()
    interpreters.run_string(other, code)
    interpreters.destroy(other)
    with open(path) as f:
        return f.read()


kept = rows()[::200]
serve.serve({"work": work})
