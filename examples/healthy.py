"""healthy.py: a control. A table of prices in memory that is updated all the time.

Rows are replaced at random, each twice in the mean, but the table keeps its size, and a new row has
the sizes of the old one: the holes that one leaves are just what the next one needs.

Expect: much memory, and nearly all of it live. To see it is as useful as to see fragmentation: this
process needs what it has.
"""

import argparse
import os
import random

REPLACED = 2  # times, each row, in the mean


def row(number, draw):
    return (
        "item-%08d" % number,
        draw.random(),
        "seller-%06d of the market" % draw.randrange(10 ** 6),
        draw.randrange(10 ** 6, 10 ** 7),
    )


def hold():
    while os.read(0, 4096):
        pass


def main():
    summary, _, expectation = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=expectation)
    parser.add_argument("--size", type=int, default=540000, help="how many rows (540000)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--hold", action="store_true", help="stay until stdin ends")
    options = parser.parse_args()

    draw = random.Random(options.seed)
    table = [row(number, draw) for number in range(options.size)]
    for _ in range(REPLACED * options.size):
        number = draw.randrange(options.size)
        table[number] = row(number, draw)

    print("READY", os.getpid(), flush=True)
    if options.hold:
        hold()
    return table


if __name__ == "__main__":
    STATE = main()
