"""heap.py MIB KEEP: a pymalloc heap of MIB, then at rest.

Objects of all size classes are made until their blocks take MIB MiB; then all but the fraction KEEP of
them is dropped at random, so that free lists are as shuffled as a long-lived service's.
"""

import os
import random
import sys

mib, keep = int(sys.argv[1]), float(sys.argv[2])
rnd = random.Random(1)
sizes = [rnd.randrange(1, 470) for _ in range(10007)]
objects = []
left = mib << 20
i = 0
while left > 0:
    size = sizes[i % 10007]
    objects.append(b"x" * size)
    left -= (size + 33 + 15) // 16 * 16
    i += 1
if keep < 1:
    for k in range(len(objects)):
        if rnd.random() >= keep:
            objects[k] = None
print("READY", os.getpid(), flush=True)
sys.stdin.read()
