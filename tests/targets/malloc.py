"""malloc.py [THREADS] [COUNT]: threads that hold what malloc gave them, and large bytearrays.

Each thread makes COUNT bytes objects of 600 to 60,000 bytes, drops two of three, and waits. Then the
main thread makes bytearrays of 200 kB to 5 MB, which have mappings of their own until one of them was
freed and malloc has learned to serve that size from its heap.
"""

import random
import sys
import threading

import serve

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 8
COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 400

forever = threading.Lock()
forever.acquire()


def work(seed, done):
    draw = random.Random(seed)
    objects = [b"\x01" * draw.randrange(600, 60000) for _ in range(COUNT)]
    kept = objects[::3]
    del objects
    done.release()
    forever.acquire()
    kept.clear()


dones = [threading.Lock() for _ in range(THREADS)]
for number, done in enumerate(dones):
    done.acquire()
    threading.Thread(target=work, args=(number, done), daemon=True).start()
    done.acquire()
draw = random.Random(99)
large = [bytearray(draw.randrange(200000, 5000000)) for _ in range(20)]
for one in large[:10]:
    one[:] = b"\x02" * len(one)
del large[3], large[12], one

serve.serve()
