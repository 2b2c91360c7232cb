"""reused_peak.py: a control. A service that builds a large report now and then.

A report is a list of lines. While it is there it is asked about; then it goes, but for its table of contents,
which is the first line of every page. Until the next report comes, only the contents are asked about; the
next one's contents replace them.

Expect: RSS rises with the first report and stays, though between two reports nearly all is free. That is no
harm: each report fits into what the one before left, so the memory is needed again and again.
"""

import argparse
import os
import random
import time

ROUNDS = 4
SECONDS = 0.4  # that a report, or its contents, is asked about
PAGE = 100  # lines


def report(count, draw):
    return [
        "%08d %s %s" % (number, "customer " * draw.randrange(10, 30), "item " * draw.randrange(20, 60))
        for number in range(count)
    ]


def ask(lines, seconds):
    draw = random.Random(0)
    end = time.monotonic() + seconds
    asked = 0
    while time.monotonic() < end:
        asked += len(draw.choice(lines))
    return asked


def hold():
    while os.read(0, 4096):
        pass


def main():
    summary, _, expectation = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=expectation)
    parser.add_argument("--size", type=int, default=360000, help="lines of a report (360000)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--hold", action="store_true", help="stay until stdin ends")
    options = parser.parse_args()

    draw = random.Random(options.seed)
    for _ in range(ROUNDS):
        lines = report(options.size, draw)
        ask(lines, SECONDS)
        contents = lines[::PAGE]
        del lines
        ask(contents, SECONDS)
    ask(contents, SECONDS)

    print("READY", os.getpid(), flush=True)
    if options.hold:
        hold()
    return contents


if __name__ == "__main__":
    STATE = main()
