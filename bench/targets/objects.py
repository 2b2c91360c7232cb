"""A heap of records, each of four objects: COUNT objects in all, about 1 GiB at ten million."""

import sys


class Record:
    __slots__ = ("number", "weight", "text")

    def __init__(self, n):
        self.number = n + 1000
        self.weight = n / 7
        self.text = "%0230d" % n


RECORDS = [Record(n) for n in range(int(sys.argv[1]) // 4)]
print("READY", flush=True)
sys.stdin.readline()
