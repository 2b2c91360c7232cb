"""request_threads.py: threads that answer requests, and the log of what was slow.

Each request has buffers: a header of 600 B to 3 KB, a body of 4 to 40 KB or, one in ten, of up to 125 KB.
They go when it is answered, in another order than they came. Of the headers one in fifty is kept, in the
log of slow requests. Each thread has an arena of malloc to itself.

Expect: RSS stays nearly at its peak, though the threads have ended. Their arenas are free but for the
headers in the log, which lie all over them.
"""

import argparse
import os
import random
import threading

THREADS = 4
TURNS = 50
SEARCHES = 2500000


def buffer(draw):
    kind = draw.random()
    if kind < 0.55:
        return b"h" * draw.randrange(600, 3000)
    if kind < 0.9:
        return b"b" * draw.randrange(4000, 40000)
    return b"b" * draw.randrange(60000, 125000)


def answer(waiting, start, slow, draw):
    start.wait()
    requests = []
    for _ in range(TURNS * waiting):
        arrived = buffer(draw)
        requests.append(arrived)
        if len(arrived) < 3000 and draw.random() < 0.02:
            slow.append(arrived)
        if len(requests) > waiting:
            number = draw.randrange(waiting)
            requests[number] = requests[-1]
            requests.pop()


def search(slow, searches, draw):
    return sum(len(draw.choice(slow)) for _ in range(searches))


def hold():
    while os.read(0, 4096):
        pass


def main():
    summary, _, expectation = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=expectation)
    parser.add_argument("--size", type=int, default=9000, help="requests waiting at a time (9000)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--hold", action="store_true", help="stay until stdin ends")
    options = parser.parse_args()

    start = threading.Barrier(THREADS)
    logs = [[] for _ in range(THREADS)]
    threads = []
    for number, log in enumerate(logs):
        draw = random.Random(options.seed * THREADS + number)
        work = (options.size // THREADS, start, log, draw)
        threads.append(threading.Thread(target=answer, args=work, name="worker-%d" % number))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slow = [header for log in logs for header in log]
    search(slow, SEARCHES, random.Random(options.seed))

    print("READY", os.getpid(), flush=True)
    if options.hold:
        hold()
    return slow


if __name__ == "__main__":
    STATE = main()
