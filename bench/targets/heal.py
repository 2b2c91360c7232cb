"""heal.py WAY SCRIPT [ARGUMENT…]: runs a program to its end, says READY, and answers questions.

    heal     gives memory back in this way: untouched, malloc_trim, trim, purge; JSON of what came of it
    pause N  N times: the longest gap that a ticking thread sees without a purge, and during one; JSON
    quit     leave

What the program leaves in its module stays alive.
"""

import gc
import json
import os
import runpy
import sys
import threading
import time

WAY = sys.argv[1]
if WAY in ("trim", "purge"):
    import pydefrag


def heal():
    if WAY == "malloc_trim":
        import ctypes

        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
    elif WAY in ("trim", "purge"):
        # As `fix` and `auto` do it: without the dataclasses of the package, which take memory themselves.
        done = json.loads(pydefrag._start._agent.call('{"do": "%s", "collect": true}' % WAY))["done"]
        assert not done["skipped"], done["skipped"]
        return done
    return {}


class Ticking(threading.Thread):
    """Sleeps for a millisecond over and over, and keeps the longest time from one waking to the next."""

    def __init__(self):
        super().__init__(daemon=True)
        self.longest = 0.0

    def run(self):
        before = time.perf_counter()
        while True:
            time.sleep(0.001)
            now = time.perf_counter()
            if now - before > self.longest:
                self.longest = now - before
            before = now


def churn(kept, seed):
    """Fills the heap anew and keeps every fiftieth object, so that there is something to purge."""
    for i in range(seed, seed + 200000):
        one = ("%09d" % i, float(i), [i])
        if i % 50 == 0:
            kept.append(one)
    many = [("%09d" % i, float(i), [i]) for i in range(seed, seed + 400000)]
    kept.extend(many[::50])


def pause(times):
    """Pairs of the longest gap untouched and during a purge, each over the same time."""
    ticking = Ticking()
    ticking.start()
    gaps, kept, lasts = [], [], 0.2
    for n in range(int(times)):
        churn(kept, n * 1000000)
        time.sleep(0.05)
        ticking.longest = 0.0
        begun = time.perf_counter()
        done = pydefrag.purge()
        lasts = time.perf_counter() - begun
        during = ticking.longest
        time.sleep(0.05)
        ticking.longest = 0.0
        time.sleep(lasts)
        gaps.append((ticking.longest, during, lasts, done.longest_slice, done.bytes_dropped))
    return gaps


sys.argv = sys.argv[2:]
left = runpy.run_path(sys.argv[0], run_name="__main__")
os.write(1, b"READY %d\n" % os.getpid())
for line in iter(lambda: os.read(0, 4096), b""):
    words = line.decode().split()
    if words[0] == "quit":
        break
    answer = {"heal": heal, "pause": pause}[words[0]](*words[1:])
    os.write(1, (json.dumps(answer) + "\nEND\n").encode())
