"""culprits.py KIND [N]: N texts are made in a row and one in 36 stays, so that each keeps an OS page; KIND says who keeps them.

dict       a dict of the module                   SESSIONS
instance   a list that an instance has            STORE.cache
closure    a list that a closure sees             lookup, kept
class      a dict of a class                      Registry.entries
local      a list in a frame of a blocked thread  worker, backlog
deque      a deque of the module                  RECENT
lru_cache  a function's cache                     page
"""

import collections
import functools
import sys
import threading

import serve

KIND = sys.argv[1]
COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 300000
NEIGHBOURS = 35  # about as many of these texts are on an OS page


def text(number):
    return "%09d" % number + "x" * 50  # the texts are made here


def survivors():
    """Gives the survivors one by one; when all are made, their neighbours go."""
    neighbours = []
    for number in range(0, COUNT, NEIGHBOURS + 1):
        yield text(number)
        for other in range(NEIGHBOURS):
            neighbours.append(text(number + other + 1))


def keep_dict():
    global SESSIONS
    SESSIONS = {}
    for number, one in enumerate(survivors()):
        SESSIONS[number] = one


class Store:
    def __init__(self):
        self.cache = []

    def fill(self):
        self.cache.extend(survivors())


def keep_instance():
    global STORE
    STORE = Store()
    STORE.fill()


def make_lookup():
    kept = []

    def lookup(number):
        return kept[number]

    kept.extend(survivors())
    return lookup


def keep_closure():
    global lookup
    lookup = make_lookup()


class Registry:
    entries = {}


def keep_class():
    for number, one in enumerate(survivors()):
        Registry.entries[number] = one


def worker(ready, forever):
    backlog = list(survivors())
    ready.set()
    forever.acquire()
    return backlog


def keep_local():
    forever = threading.Lock()
    forever.acquire()
    ready = threading.Event()
    threading.Thread(target=worker, args=(ready, forever), name="importer", daemon=True).start()
    ready.wait()


def keep_deque():
    global RECENT
    RECENT = collections.deque(survivors())


def keep_lru_cache():
    global page
    made = survivors()

    @functools.lru_cache(maxsize=None)
    def page(number):
        return next(made)

    for number in range(COUNT // (NEIGHBOURS + 1)):
        page(number)
    # What made the texts goes, with the neighbours.
    made.close()


globals()["keep_" + KIND]()
serve.serve()
