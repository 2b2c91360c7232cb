"""structures.py KIND before|after: the same data in two structures, so that what a change saves can be seen.

    slots    instances with three attributes, without and with __slots__
    array    a list of floats, and array.array
    tuple    lists of two texts, and tuples
    rebuild  a dict of which most was deleted, and what dict() makes of it
    intern   equal texts again and again, and one of each
"""

import array
import sys

import serve

KIND, AFTER = sys.argv[1], sys.argv[2] == "after"
COUNT = 40000


class Plain:
    def __init__(self, text):
        self.first, self.second, self.third = text, text, text


class Slotted:
    __slots__ = ("first", "second", "third")
    __init__ = Plain.__init__


def slots():
    return [(Slotted if AFTER else Plain)("text") for _ in range(COUNT)]


def numbers():
    floats = [n / 7 for n in range(COUNT)]
    return array.array("d", floats) if AFTER else floats


def pairs():
    # A list of this length has no room to spare.
    lists = [["first", "second"] for _ in range(COUNT)]
    return [tuple(pair) for pair in lists] if AFTER else lists


def shrunk():
    d = {n: None for n in range(COUNT * 4)}
    for n in range(1000, COUNT * 4):
        del d[n]
    return dict(d) if AFTER else d


def texts():
    made = ["text number %d" % (n % 100) for n in range(COUNT)]
    return [sys.intern(text) for text in made] if AFTER else made


KEPT = {"slots": slots, "array": numbers, "tuple": pairs, "rebuild": shrunk, "intern": texts}[KIND]()
serve.serve()
