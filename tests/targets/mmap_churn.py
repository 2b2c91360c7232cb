"""Maps, touches and unmaps memory for ever; each quarter of a second a line with the count so far.

It ends with its stdin, or when nobody reads its stdout any more.
"""

import mmap
import os
import threading
import time

import serve

PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
SIZES = tuple(size * mmap.PAGESIZE for size in (1, 16, 64, 256))


def end_with_stdin():
    while os.read(0, 4096):
        pass
    os._exit(0)


def churn():
    count = 0
    held = [mmap.mmap(-1, SIZES[i % 4], flags=PRIVATE) for i in range(32)]
    next_line = time.monotonic() + 0.25
    while True:
        held[count % 32].close()
        held[count % 32] = fresh = mmap.mmap(-1, SIZES[count % 4], flags=PRIVATE)
        fresh[0] = 1
        count += 1
        if count % 64 == 0 and time.monotonic() >= next_line:
            os.write(1, b"%d\n" % count)
            next_line += 0.25


threading.Thread(target=end_with_stdin, daemon=True).start()
serve.ready()
churn()
