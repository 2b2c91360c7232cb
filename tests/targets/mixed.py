"""mixed.py [PATTERN] [N]: N objects of many kinds, most of which are dropped.

PATTERN says what survives: rand1 (1% by chance, the default), rand5, nth20 (each twentieth), cache
(each twentieth, and those are strings made in one place).
"""

import random
import sys

import serve

PATTERN = sys.argv[1] if len(sys.argv) > 1 else "rand1"
COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 300000


class Point(object):
    __slots__ = ("a", "b", "c")

    def __init__(self, a, b, c):
        self.a, self.b, self.c = a, b, c


def make(i, share):
    k = int(share * 100)
    if k < 30:
        return "k%d:%s" % (i, "x" * (k * 4))
    if k < 45:
        return (i, k)
    if k < 55:
        return float(i) + share
    if k < 65:
        return 1000000 + i
    if k < 75:
        return Point(i, k, share)
    if k < 83:
        return [i] * (k - 74)
    if k < 89:
        return {"a": i, "b": k}
    if k < 95:
        return b"y" * (k * 3)
    return (i, k, share, str(i))


def cache_entry(i):
    return "cache-entry-%d" % i


def build():
    draw = random.Random(42).random
    if PATTERN == "cache":
        return [make(i, draw()) if i % 20 else cache_entry(i) for i in range(COUNT)]
    return [make(i, draw()) for i in range(COUNT)]


def pick(objects):
    if PATTERN.startswith("rand"):
        draw = random.Random(7).random
        return [one for one in objects if draw() < float(PATTERN[4:]) / 100]
    return objects[:: 20 if PATTERN == "cache" else int(PATTERN[3:])]


survivors = pick(build())

serve.serve()
