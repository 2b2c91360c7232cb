"""The garbage collector frees cycles. It moves nothing, and packs nothing."""

import gc

from look import heading, look


class Node:
    __slots__ = ("partner", "payload")


def pair():
    a, b = Node(), Node()
    a.partner, b.partner, a.payload = b, a, bytes(200)
    return a


heading()
gc.disable()
pairs = [pair() for _ in range(200000)]
look("200,000 pairs of objects")
survivors = pairs[::100]
del pairs
look("99% of them unreachable")
addresses = [id(one) for one in survivors]
print("gc.collect() frees", gc.collect(), "objects")
look("collected")
gc.collect()
look("collected again")
print("survivors that moved:", sum(id(one) != at for one, at in zip(survivors, addresses)))
