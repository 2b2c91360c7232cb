"""Allocates, and waits twice without allocating: waiting.py COUNTING_LIBRARY."""
import ctypes
import gc
import os
import random
import sys
import threading
import time

wait = ctypes.PyDLL(sys.argv[1]).counted_wait
random.seed(3)


def work(rounds):
    kept = []
    for i in range(rounds):
        kept.append([{"a": i}, (i, i + 0.5), str(i) * (i % 30), bytes(random.randrange(6000))])
        if len(kept) > 2000:
            del kept[random.randrange(100) : 700]
    return kept[::3]


kept = work(5000)
wait()
threads = [threading.Thread(target=lambda: kept.extend(work(2000))) for _ in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
# A thread that was joined may still be about to give its state back: it is gone when the kernel says so.
while len(os.listdir("/proc/self/task")) > 1:
    time.sleep(0.01)
kept = kept[::2]
data = bytearray()
for i in range(300):
    data += bytes(i * 10)
gc.collect()
wait()
