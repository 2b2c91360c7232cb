"""leak.py: a control. A service that remembers, for its audit, more of each request than anyone reads.

Whoever wrote it meant to keep the audit for the time of a request. It is a list of the module, nobody
empties it, and each record also has a function that would do the request again, with all it needs.

Expect: memory grows from the start to the end, and nearly all of it is live. This is a leak and not
fragmentation: what helps is to find what is kept, not to move it.
"""

import argparse
import os
import random
import time

ROUNDS = 50
PAUSE = 0.04  # seconds until the next requests come
AUDIT = []


def serve(number, draw):
    request = ("/order/%d" % number, "user-%06d" % draw.randrange(10 ** 6), draw.random())
    lines = ["%d pieces of article %d" % (draw.randrange(1, 9), draw.randrange(10 ** 5)) for _ in range(8)]
    answer = "\n".join(lines)
    AUDIT.append((request, answer, lambda: serve(number, draw)))
    return answer


def serve_round(numbers, draw):
    answers = [serve(number, draw) for number in numbers]
    return sum(len(answer) for answer in answers)


def hold():
    while os.read(0, 4096):
        pass


def main():
    summary, _, expectation = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=expectation)
    parser.add_argument("--size", type=int, default=220000, help="how many requests (220000)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--hold", action="store_true", help="stay until stdin ends")
    options = parser.parse_args()

    draw = random.Random(options.seed)
    in_round = options.size // ROUNDS
    for number in range(ROUNDS):
        serve_round(range(number * in_round, (number + 1) * in_round), draw)
        time.sleep(PAUSE)

    print("READY", os.getpid(), flush=True)
    if options.hold:
        hold()


if __name__ == "__main__":
    main()
