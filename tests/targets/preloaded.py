"""preloaded.py [N]: a master that fills its heap with N objects, drops half, and can fork workers.

    fork    forks a worker that shares all it has with the master and sleeps until the master ends;
            answers when it sleeps, and copies no more pages
"""

import os
import sys
import time

import serve

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 200000

objects = [b"x" * (i * 37 % 480) + b"%09d" % i for i in range(COUNT)]
del objects[::2]
# The worker reads from it; no one writes, and it ends with the master, which holds the other end.
asleep, awake = os.pipe()


def sleeps(worker):
    """Whether it has closed its descriptors and waits for its last read."""
    with open("/proc/%d/stat" % worker) as stat:
        asleep_now = stat.read().rpartition(") ")[2].startswith("S")
    return asleep_now and not os.path.exists("/proc/%d/fd/%d" % (worker, awake))


def fork():
    worker = os.fork()
    if worker == 0:
        for fd in (0, 1, 2, awake):
            os.close(fd)
        os.read(asleep, 1)
        os._exit(0)
    while not sleeps(worker):
        time.sleep(0.01)


serve.serve({"fork": fork})
