"""threads_bytes.py [N]: four threads make N bytes objects each, 600 bytes to 125 kB, and keep few.

The objects are too large for pymalloc: they fragment malloc's arenas, one per thread.
"""

import random
import sys
import threading

import serve

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 15000


def work(seed, kept):
    draw = random.Random(seed)
    window = []
    for _ in range(COUNT):
        share = draw.random()
        if share < 0.55:
            size = draw.randrange(600, 3000)
        elif share < 0.9:
            size = draw.randrange(4096, 40000)
        else:
            size = draw.randrange(60000, 125000)
        data = b"\x01" * size
        window.append(data)
        if size < 3000 and draw.random() < 0.05:
            kept.append(data)
        if len(window) > 2000:
            start = draw.randrange(1500)
            del window[start : start + 400]


survivors = []
for number in range(2):
    lists = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=work, args=(number * 4 + i, kept)) for i, kept in enumerate(lists)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    survivors.extend(lists)
del lists, threads, thread

serve.serve()
