"""fragmented.py [N]: N small objects of mixed sizes, of which few survive.

Three quarters of the objects die but for one in a hundred, evenly spread: pools with a survivor or
two, and pages without any inside them. The last quarter dies but for runs of a thousand in each
twenty thousand: full pools beside wholly free ones. What survives is in `survivors`.
"""

import sys

import serve

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 400000
LENGTHS = (1, 30, 60, 100, 150, 220, 300, 400, 470)


def make(i):
    kind = i % 12
    if kind < 9:
        return (b"%09d" % i) + b"x" * LENGTHS[kind]
    if kind == 9:
        return (i, float(i))
    if kind == 10:
        return [i]
    return {"number": i}


def survives(i):
    if i < COUNT * 3 // 4:
        return i % 101 == 0
    return i % 20000 < 1000


objects = [make(i) for i in range(COUNT)]
survivors = [objects[i] for i in range(COUNT) if survives(i)]
del objects

serve.serve()
