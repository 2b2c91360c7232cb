"""garbage.py KIND [N]: with the collector off, N cycles of KIND that nothing refers to; `kept KIND` keeps them, as a control.

    instances  an instance that refers to itself
    lists      a list that holds itself

Beside those of serve.py: `collect` says how many objects the collector then finds, `frozen` how many it
does not look at.
"""

import gc
import os
import sys

import serve

KEEP = sys.argv[1] == "kept"
KIND = sys.argv[2] if KEEP else sys.argv[1]
COUNT = int(sys.argv[-1])
KEPT = []


class Node:
    def __init__(self, number):
        self.number = number
        self.me = self


def instances(count):
    for number in range(count):
        keep(Node(number))


def lists(count):
    for number in range(count):
        one = [number]
        one.append(one)
        keep(one)


def keep(one):
    if KEEP:
        KEPT.append(one)


def frozen():
    os.write(1, b"%d\n" % gc.get_freeze_count())


def collect():
    os.write(1, b"%d\n" % gc.collect())


# serve.serve() would collect what is planted.
gc.collect()
gc.disable()
serve.rehearse({"collect": collect, "frozen": frozen}, ["collect", "frozen"])
{"instances": instances, "lists": lists}[KIND](COUNT)
# The last ones may still be on the stack.
keep(None)
serve.ready()
serve.answer_all({"collect": collect, "frozen": frozen})
