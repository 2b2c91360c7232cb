"""pointed.py: objects of all sorts and sizes among many others, most of which are gone; `where` says where they are.

A line for each: the object's address, its bytes as sys.getsizeof counts them, and its qualified type.
"""

import collections
import os
import random
import sys

import serve


class Slotted(object):
    __slots__ = ("a", "b")


class Plain(object):
    def __init__(self):
        self.a = 1


draw = random.Random(3)
OTHERS = [bytes(draw.randrange(600)) for _ in range(100000)]

PLANTED = [
    Slotted(),
    Plain(),
    1.25e300,
    10 ** 60,
    "a text of some length, %d" % len(OTHERS),
    b"y" * 300,
    (OTHERS, 1, 2, 3, 4),
    [OTHERS],
    {"a": OTHERS},
    {1, 2, OTHERS[0]},
    collections.deque(),
    # malloc's, the last with a mapping of its own.
    b"z" * 5000,
    "w" * 70000,
    b"m" * 3000000,
]

del OTHERS[::3], OTHERS[1::2]


def name(kind):
    return kind.__qualname__ if kind.__module__ == "builtins" else "%s.%s" % (kind.__module__, kind.__qualname__)


def where(*_):
    for one in PLANTED:
        os.write(1, b"%d %d %s\n" % (id(one), sys.getsizeof(one), name(type(one)).encode()))


serve.serve({"where": where}, also=["where"])
