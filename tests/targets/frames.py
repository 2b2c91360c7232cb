"""frames.py [N]: threads and functions that wait, each with objects that only its frame holds.

`ids` maps what a reader must find to the id of the object; a key is function/variable. N is how deep
`deep` calls itself. Questions beside those of serve.py:

    count K   len(gc.get_objects(generation=K))
    frozen    gc.get_freeze_count()
    freeze    gc.freeze()
"""

import gc
import os
import sys
import threading

import serve

DEPTH = int(sys.argv[1]) if len(sys.argv) > 1 else 50

ids = {}
kept = []
event = threading.Event()
begun = threading.Barrier(3)


def worker(argument):
    survivors = [b"survivor %d" % i for i in range(1000)]
    grössen = {"é": 1}
    gone = object()
    del gone
    ids.update({"worker/argument": id(argument), "worker/survivors": id(survivors)})
    ids["worker/grössen"] = id(grössen)
    begun.wait()
    event.wait()
    return survivors, grössen


def loops():
    iterator = iter([object(), object()])
    ids["loops/stack item"] = id(iterator)
    # From here on, only the evaluation stack holds it.
    for item in clear(locals(), [iterator]):
        ids["loops/item"] = id(item)
        begun.wait()
        event.wait()


def clear(_, held):
    return held.pop()


class Owner:
    def method(self, depth):
        own = {"depth": depth}
        ids.update({"method/self": id(self), "method/own": id(own)})
        deep(depth, own)

    def closure(self):
        shared = ["shared"]

        def inner():
            lent = ["lent"]
            ids.update({"inner/shared": id(shared), "inner/lent": id(lent)})
            self.method(DEPTH)
            return lambda: lent

        inner()


def deep(left, passed):
    if left > 1:
        deep(left - 1, passed)
    else:

        class Body:
            within = {"a": "class"}
            ids["Body/within"] = id(within)
            ids["Body/locals()"] = id(locals())
            serve.serve(
                {
                    "count": lambda k: say(len(gc.get_objects(generation=int(k)))),
                    "frozen": lambda: say(gc.get_freeze_count()),
                    "freeze": gc.freeze,
                },
                also=["count 0", "frozen"],
            )


def say(number):
    os.write(1, b"%d\n" % number)


threading.Thread(target=worker, args=(["argument"],), name="keeps", daemon=True).start()
threading.Thread(target=loops, name="loops", daemon=True).start()
begun.wait()
Owner().closure()
