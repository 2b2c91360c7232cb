"""A program to look at twice: says READY, then does what it is told, a word a line, until stdin ends.

    leak    keeps 300,000 records more
    wave    makes 300,000 records, of which every hundredth stays
"""

import os
import sys

kept = []


def records():
    return [{"number": i, "name": "record %d" % i} for i in range(300000)]


print("READY", os.getpid(), flush=True)
for word in sys.stdin:
    if word.strip() == "leak":
        kept.append(records())
    else:
        kept.append(records()[::100])
