"""RSS far above what tracemalloc traces, and yet no leak: the same load again needs nothing new."""

import tracemalloc

from look import heading, look


def load(kept):
    objects = [bytes(400) for _ in range(200000)]
    kept[:] = objects[::200]


tracemalloc.start()
heading()
kept = []
look("at start")
for number in range(1, 5):
    load(kept)
    look("after load %d (tracemalloc: %.1f)" % (number, tracemalloc.get_traced_memory()[0] / 2 ** 20))
