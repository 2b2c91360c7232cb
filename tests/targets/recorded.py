"""Allocations of a size of their own, at places where a stack is hard to tell, each with what traceback says of it.

Prints a line of JSON per place: the size, and the stack, outermost first, as [file, line, function].
"""
import asyncio
import contextlib
import functools
import json
import sys
import threading
import traceback

SIZES = iter(range(1_000_003, 9_000_000, 1_009))
LOCK = threading.Lock()
kept = []


def size():
    with LOCK:
        return next(SIZES)


def keep(number, block, stack):
    kept.append((number, block, [(f.filename, f.lineno, f.name) for f in stack]))


def plain():
    n = size()
    keep(n, bytes(n), traceback.extract_stack())


def generator():
    for i in range(3):
        n = size()
        keep(n, bytes(n), traceback.extract_stack())
        yield i


def nested():
    yield from generator()


def comprehensions():
    [plain() for _ in range(2)]
    {i: plain() for i in range(2)}
    list(plain() for _ in range(2))
    return [[plain() for _ in range(1)] for _ in range(2)]


def recursion(depth):
    if depth == 0:
        return plain()
    if depth % 100 == 0:
        plain()
    recursion(depth - 1)
    if depth % 150 == 0:
        plain()


def called_from_c():
    sorted([3, 1, 2], key=lambda x: (plain(), x)[1])
    list(map(lambda x: plain(), range(2)))
    functools.reduce(lambda a, b: plain(), range(3))
    max([1, 2], key=lambda x: plain() or x)


class Property:
    @property
    def value(self):
        plain()
        return 1

    def __getitem__(self, i):
        plain()
        return i

    def __init__(self, deep=2):
        plain()
        self.inner = Property(deep - 1) if deep else None

    def __eq__(self, other):
        plain()
        return True

    def __hash__(self):
        plain()
        return 1


def slots():
    p = Property()
    p.value
    p[3]
    {p: 1}[Property(0)]
    getattr(p, "value")


def raises(depth):
    if depth:
        raises(depth - 1)
    plain()
    raise ValueError(depth)


def exceptions():
    for _ in range(3):
        try:
            raises(3)
        except ValueError:
            plain()
            try:
                raises(1)
            except ValueError:
                plain()
            finally:
                plain()
        finally:
            plain()
    with contextlib.suppress(ValueError):
        raises(2)
    plain()


class Dies:
    def __init__(self, other=None):
        self.other = other

    def __del__(self):
        plain()


def destructors():
    d = Dies(Dies(Dies()))
    plain()
    del d
    plain()
    [Dies() for _ in range(2)]
    raise_with = Dies()
    raise_with = None
    plain()


@contextlib.contextmanager
def manager():
    plain()
    yield
    plain()


def with_statements():
    with manager(), manager():
        plain()


async def coroutine(depth):
    if depth:
        plain()
        await coroutine(depth - 1)
        plain()
    await asyncio.sleep(0)
    plain()


async def agen():
    for i in range(2):
        plain()
        yield i
        await asyncio.sleep(0)


async def main_coroutine():
    await asyncio.gather(*(coroutine(i) for i in range(4)))
    async for _ in agen():
        plain()
    [plain() async for _ in agen()]


def thread(depth):
    if depth:
        return thread(depth - 1)
    for _ in range(5):
        plain()
        recursion(3)


def threads():
    all_of_them = [threading.Thread(target=thread, args=(i % 7,)) for i in range(50)]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()


def code_that_goes():
    for i in range(30):
        space = {"plain": plain}
        exec("def f():\n" + "\n" * (i % 5) + "    plain()\n    return plain()\n", space)
        space["f"]()
        del space


plain()
list(nested())
g = nested()
next(g)
plain()
next(g)
del g
comprehensions()
sys.setrecursionlimit(3000)
recursion(900)
recursion(899)
called_from_c()
slots()
exceptions()
destructors()
with_statements()
asyncio.run(main_coroutine())
threads()
code_that_goes()
class Body:
    plain()
    inner = [plain() for _ in range(1)]
for n, _, stack in kept:
    print(json.dumps([n, stack]))
