"""lru_cache.py: an LRU cache of mixed sizes whose limit is lowered while the service runs.

Values have 50 bytes to 8 KB, most of them little, and some keys are asked for far more often than others
(Zipf, exponent 3/4). The cache is filled to its limit and serves a day. Then the configuration is read
again, and the limit is four percent of what it was: what was used last stays, wherever it lies. At night
only that is asked for.

Expect: RSS stays nearly at its peak. What was evicted is free in both heaps: values up to 512 bytes in
pymalloc, larger ones in malloc, between the few that are left.
"""

import argparse
import os
import random
from collections import OrderedDict

LOWERED = 25  # times
NIGHT = 2200000  # requests


class Cache:
    def __init__(self, limit):
        self.limit = limit
        self.bytes = 0
        self.values = OrderedDict()

    def get(self, key):
        value = self.values.get(key)
        if value is not None:
            self.values.move_to_end(key)
        return value

    def put(self, key, value):
        self.values[key] = value
        self.bytes += len(value)
        self.evict()

    def evict(self):
        while self.bytes > self.limit:
            _, value = self.values.popitem(last=False)
            self.bytes -= len(value)


def serve(cache, keys, requests, draw):
    for _ in range(requests):
        key = "item:%d" % (keys * draw.random() ** 4)
        if cache.get(key) is None:
            cache.put(key, b"v" * int(50 * 160 ** draw.random() ** 2))


def serve_held(cache, requests, draw):
    held = list(cache.values)
    return sum(len(cache.get(draw.choice(held))) for _ in range(requests))


def hold():
    while os.read(0, 4096):
        pass


def main():
    summary, _, expectation = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=expectation)
    parser.add_argument("--size", type=int, default=130, help="MiB of values at first (130)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--hold", action="store_true", help="stay until stdin ends")
    options = parser.parse_args()

    draw = random.Random(options.seed)
    cache = Cache(options.size << 20)
    keys = 10000 * options.size
    serve(cache, keys, 6000 * options.size, draw)
    cache.limit //= LOWERED
    cache.evict()
    serve_held(cache, NIGHT, draw)

    print("READY", os.getpid(), flush=True)
    if options.hold:
        hold()
    return cache


if __name__ == "__main__":
    STATE = main()
