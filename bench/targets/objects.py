"""A heap of COUNT objects: `objects.py COUNT [mixed]`.

Records of four objects each, about 1 GiB at ten million, all of them live; or, mixed, objects of many types and sizes
in no order, of which every third is gone by chance: hard to pack into few bytes.
"""

import random
import sys


class Record:
    __slots__ = ("number", "weight", "text")

    def __init__(self, n):
        self.number = n + 1000
        self.weight = n / 7
        self.text = "%0230d" % n


KINDS = [
    lambda n: n + 1000,
    lambda n: n / 7,
    lambda n: (n, None),
    lambda n: "%d" % n,
    lambda n: b"%40d" % n,
    lambda n: "%0230d" % n,
    lambda n: [n, None],
    lambda n: {n},
]


def mixed(count):
    draw = random.Random(1).random
    made = [KINDS[int(draw() * 8)](n) for n in range(count * 3 // 2)]
    return [one for one in made if draw() * 3 < 2]


count = int(sys.argv[1])
KEPT = mixed(count) if sys.argv[2:] == ["mixed"] else [Record(n) for n in range(count // 4)]
print("READY", flush=True)
sys.stdin.readline()
