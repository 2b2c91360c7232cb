"""steady.py AUTO REQUESTS: a service that handles the same requests over and over, with a peak now and then; says
what that took.

AUTO is 1 where pydefrag.auto() is on, else 0. A request makes some records, and a cache keeps a few of them for a
while. Every thousandth one makes a lot of them at once. Between the requests it waits a little, as a service does.
"""

import json
import resource
import sys
import time

import pydefrag

if sys.argv[1] == "1":
    pydefrag.auto()
requests = int(sys.argv[2])


def record(i):
    return {"id": i, "name": "user-%09d" % i, "tags": (i * 3 + 1000, float(i))}


cache = [None] * 20000
begun = time.perf_counter()
for request in range(requests):
    count = 150000 if request % 1000 == 999 else 150
    records = [record(request * 1000 + i) for i in range(count)]
    for i, one in enumerate(records[:: max(count // 15, 1)]):
        cache[(request * 15 + i) % len(cache)] = one
    del records, one
    time.sleep(0.0005)
wall = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"wall": wall, "cpu": used.ru_utime + used.ru_stime, "heals": pydefrag.status().heals}))
