"""records.py [N]: batches of parsed records, of which a cache keeps a hundredth.

Each of three rounds makes N records (a dict, its strings, a tuple) and drops them but for the name
and the tags of one in a hundred, which pin the pools that the round filled.
"""

import random
import sys

import serve

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 100000


def parse(i):
    return {
        "id": i,
        "name": "user-%09d" % i,
        "tags": (i * 3 + 1000, float(i)),
        "note": ("%x" % i) * (1 + i % 9),
    }


def run_round(number, draw, cache):
    batch = [parse(number * COUNT + i) for i in range(COUNT)]
    for record in batch:
        if draw() < 0.01:
            cache.append((record["name"], record["tags"]))


survivors = []
draw = random.Random(7).random
for number in range(3):
    run_round(number, draw, survivors)

serve.serve()
