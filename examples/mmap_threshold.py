"""mmap_threshold.py: a service that joins photographs to a panorama and keeps the features it found.

A photograph is one array of 1 to 30 MiB. The service decodes one, takes some features from it (2 to 3 KB
each), decodes the next; once all are joined, the photographs go. The features stay, to be compared with those
of landmarks. At its start the service decodes a test card, the largest picture that it accepts, and drops it.

malloc maps large arrays one by one, and gives such a mapping back when it is freed. But the first that is
freed, here the test card, raises the size from which it does so: all photographs come from the heap.

Expect: RSS stays at its peak. Nearly all of it is free in malloc's main arena, in pieces as large as a
photograph, each between features that are live.
"""

import argparse
import os
import random

MIB = 1 << 20
LANDMARKS = 5000
FEATURES = 60  # of each photograph
COMPARISONS = 2500000


def decode(size, draw):
    return bytearray([draw.randrange(1, 256)]) * size


def look(photograph, draw):
    features = []
    for _ in range(FEATURES):
        size = draw.randrange(2000, 3000)
        place = draw.randrange(len(photograph) - size)
        features.append(bytes(photograph[place:place + size]))
    return features


def join(photographs):
    light = sum(sum(photograph) for photograph in photographs)
    return light / sum(len(photograph) for photograph in photographs)


def compare(features, landmarks, draw):
    return sum(draw.choice(features) == draw.choice(landmarks) for _ in range(COMPARISONS))


def hold():
    while os.read(0, 4096):
        pass


def main():
    summary, _, expectation = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=expectation)
    parser.add_argument("--size", type=int, default=180, help="MiB of photographs (180)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--hold", action="store_true", help="stay until stdin ends")
    options = parser.parse_args()

    draw = random.Random(options.seed)
    landmarks = [bytes(decode(draw.randrange(2000, 3000), draw)) for _ in range(LANDMARKS)]
    decode(30 * MIB, draw)
    photographs = []
    features = []
    missing = options.size * MIB
    while missing > MIB:
        size = min(missing, int(MIB * 29 ** draw.random()))
        missing -= size
        photographs.append(decode(size, draw))
        features.extend(look(photographs[-1], draw))
    join(photographs)
    del photographs
    compare(features, landmarks, draw)

    print("READY", os.getpid(), flush=True)
    if options.hold:
        hold()
    return features, landmarks


if __name__ == "__main__":
    STATE = main()
