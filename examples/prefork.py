"""prefork.py: a master that loads a catalogue, and the workers that it forks to serve it.

A worker inherits the catalogue and shares its memory with the master until one of them writes to it. To look
at an object is to write: its reference count changes, and the kernel copies the OS page. Each worker serves a
part of the catalogue, and so copies a part.

Expect: in the master nearly everything live, and little of it its own alone. In each worker a quarter of the
catalogue copied, beside what it made itself.
"""

import argparse
import os
import random

REQUESTS = 2  # to each worker, for each item


def item(number, draw):
    return (
        "article-%08d" % number,
        "an article in colour %d, by seller %d" % (draw.randrange(500), draw.randrange(10 ** 6)),
        draw.random(),
        draw.randrange(10 ** 6, 10 ** 7),
    )


def serve(part, requests, draw):
    cache = {}
    for _ in range(requests):
        name, text, price, _ = draw.choice(part)
        if draw.random() < 0.1:
            cache[name] = "%s: %s, for %.2f" % (name, text, price)
    return cache


def worker(catalogue, options, number, ready, lifeline):
    share = len(catalogue) // options.workers
    part = catalogue[number * share:(number + 1) * share]
    draw = random.Random(options.seed + number + 1)
    cache = serve(part, REQUESTS * len(catalogue), draw)
    os.write(ready, b".")
    os.close(ready)
    os.read(lifeline, 1)
    return cache


def fork_workers(catalogue, options):
    """Returns, once all are ready, the workers and a file that they live as long as."""
    ready, say_ready = os.pipe()
    lifeline, lives = os.pipe()
    workers = []
    for number in range(options.workers):
        pid = os.fork()
        if pid == 0:
            os.close(lives)
            try:
                worker(catalogue, options, number, say_ready, lifeline)
            finally:
                os._exit(0)
        workers.append(pid)
    os.close(say_ready)
    os.close(lifeline)
    for pid in workers:
        if not os.read(ready, 1):
            raise SystemExit("a worker ended before it was ready")
    return workers, lives


def hold():
    while os.read(0, 4096):
        pass


def main():
    summary, _, expectation = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=expectation)
    parser.add_argument("--size", type=int, default=500000, help="items of the catalogue (500000)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--workers", type=int, default=4, help="how many (4)")
    parser.add_argument("--hold", action="store_true", help="stay until stdin ends, workers too")
    options = parser.parse_args()

    draw = random.Random(options.seed)
    catalogue = [item(number, draw) for number in range(options.size)]
    workers, lives = fork_workers(catalogue, options)

    print("READY", os.getpid(), flush=True)
    if options.hold:
        hold()
    os.close(lives)
    for pid in workers:
        os.waitpid(pid, 0)
    return catalogue


if __name__ == "__main__":
    STATE = main()
