"""Fewer arenas help where threads do not need their memory at the same time, and only there."""

import os
import random
import subprocess
import sys
import threading

from look import heading, look

THREADS, BUFFERS = 8, 1350  # of 600 B to 36 KB: 12 MiB to each thread


class Thread(threading.Thread):
    def __init__(self, number, then):
        super().__init__(daemon=True)
        self.draw, self.then = random.Random(number), then

    def run(self):
        self.buffers = [b"x" * int(600 * 60 ** self.draw.random()) for _ in range(BUFFERS)]
        self.then()
        self.buffers = self.buffers[::100]
        self.then()
        threading.Event().wait()


def at_once():
    """All fill, then all drop."""
    everyone = threading.Barrier(THREADS + 1)
    threads = [Thread(n, everyone.wait) for n in range(THREADS)]
    for one in threads:
        one.start()
    everyone.wait()
    everyone.wait()
    return threads


def in_turn():
    """One fills and drops, then the next."""
    threads = []
    for number in range(THREADS):
        dropped = threading.Semaphore(0)
        threads.append(Thread(number, dropped.release))
        threads[-1].start()
        dropped.acquire()
        dropped.acquire()
    return threads


if len(sys.argv) == 1:
    heading("malloc")
    for how in ("at once", "in turn"):
        for most in ("", "2", "1"):
            sys.stdout.flush()
            environment = dict(os.environ, **({"MALLOC_ARENA_MAX": most} if most else {}))
            name = "  MALLOC_ARENA_MAX=" + most if most else "8 threads, " + how
            subprocess.run([sys.executable, __file__, how, name], check=True, env=environment)
else:
    heading("malloc", stated=False)
    threads = at_once() if sys.argv[1] == "at once" else in_turn()
    look(sys.argv[2])
