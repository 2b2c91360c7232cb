"""Allocates in many ways, and has `counted.c` mark the trace now and then. argv: the counting library."""
import ctypes
import gc
import random
import sys
import threading

counted = ctypes.PyDLL(sys.argv[1])
mark = counted.counted_mark_blocks
random.seed(5)


class Node:
    def __init__(self, other):
        self.other = other
        self.me = self


def work(rounds):
    kept = []
    for i in range(rounds):
        kept.append([{"a": i, "b": str(i) * (i % 40)}, (i, i + 0.5), bytes(random.randrange(2000))])
        kept[-1].extend(range(i % 50))
        Node(kept[-1])
        if len(kept) > 200:
            del kept[random.randrange(100):150]
    return kept


mark()
kept = work(3000)
mark()
threads = [threading.Thread(target=work, args=(1500,)) for _ in range(5)]
for t in threads:
    t.start()
for t in threads:
    t.join()
mark()
gc.collect()
mark()
data = [bytearray() for _ in range(50)]
for _ in range(2000):
    data[random.randrange(50)].extend(b"x" * random.randrange(500))
mark()
try:
    [bytes(1 << 62) for _ in range(1)]
except MemoryError:
    pass
try:
    bytearray(10).extend(bytearray(1 << 40) for _ in range(1))
except (MemoryError, TypeError):
    pass
try:
    big = bytearray(100)
    big.__imul__(1 << 50)
except MemoryError:
    pass
mark()
del kept, data
mark()
print("done")
