"""Frames in which a mark stays although they have gone on, and then wait otherwise: stale.py.

A call that raises leaves the slot for its value as it was. What the frame then waits for reads no such slot: a function
called by C, a generator, a coroutine, an `__init__` (whose shim lies where a frame has been). Widths put the slot of the one
where that of the other was. All is done often enough to be specialized.
"""
import asyncio
import collections

WIDTHS = range(12)


def allocates():
    return [object() for _ in range(2)], {}


def raises(*_):
    allocates()
    raise ValueError


def called(x=None):
    allocates()
    return 0


def generates():
    for _ in range(3):
        allocates()
        yield 0


async def waits():
    allocates()


def caught(source):
    return f"        try:\n            {source}\n        except ValueError:\n            allocates()\n"


def function(head, lines):
    body = head + "\n    for _ in range(3):\n        pass\n" + "".join(lines)
    exec(compile(body, __file__, "exec"), globals())


def wide(width, last):
    return "(" + "1, " * width + last + ",)"


def around(source):
    """Calls that raise at every depth, before what waits at every depth."""
    for width in WIDTHS:
        yield caught(wide(width, "raises()"))
        for other in WIDTHS:
            yield "        allocates(), " + wide(other, source) + "\n"


ONCE = "    for _ in range(1):\n"
function("def from_c():", [ONCE, *around("max([1], key=called)")])
function("def iterates():", [ONCE, *around("list(generates())"), *around("sum(generates())")])
function("async def awaits():", [ONCE, *around("await waits()")])
function("def delegates():", [ONCE, *around("(yield from generates())")])


class Got:
    def __getattribute__(self, name):
        allocates()
        if Slotted.fails:
            raise ValueError
        return called


class Made:
    def __init__(self):
        self.made = allocates()


class Slotted:
    """Its attributes are called as methods are, without a bound method between."""

    fails = False

    @property
    def value(self):
        allocates()
        if Slotted.fails:
            raise ValueError
        return called

    def __getitem__(self, i):
        allocates()
        return 0


SLOTTED, GOT = Slotted(), Got()
for source in ("SLOTTED.value()", "GOT.any()"):
    name = source.split(".")[0].lower()
    for function_of in ("left", "found"):
        lines = [ONCE]
        for width in WIDTHS:
            lines.append(caught(f"max({'1, ' * (width + 1)}{source})"))
        function(f"def {function_of}_{name}():", lines)


def properties():
    for left, found in ((left_slotted, found_slotted), (left_got, found_got)):
        for _ in range(3):
            found()
            Slotted.fails = True
            left()
            Slotted.fails = False


def one(_):
    return (raises(),)


def two(_, a=1):
    return (a, raises())


def three(_, a=1, b=2):
    return (a, b, raises())


def loops():
    """A frame with loops in it waits for generators at the depths of its loops."""
    for a in generates():
        for b in generates():
            for c in generates():
                for d in generates():
                    for e in generates():
                        for leaves in LEAVES:
                            try:
                                leaves()
                            except ValueError:
                                pass
                        break
                    for e in generates():
                        break
            break
        break


def leaves_at(width):
    name = f"leaves_{width}"
    source = f"def {name}(): return {wide(width, 'raises()')}\n"
    exec(compile(source, __file__, "exec"), globals())
    return globals()[name]


LEAVES = [leaves_at(width) for width in WIDTHS]


def shims(*_):
    for leaves in [*LEAVES, one, two, three]:
        for _ in range(3):
            try:
                leaves(1) if leaves in (one, two, three) else leaves()
            except ValueError:
                pass
            Made()
            slotted = Slotted()
            slotted.value
            slotted[1]


def through(n):
    """Calls itself by C, and goes on between: nothing of it can be marked."""
    allocates()
    if n:
        max([n], key=lambda n: through(n - 1) or 0)
        max([n], key=lambda n: through(n // 3) or 0)
    allocates()


def tree(n):
    allocates()
    if n:
        yield from tree(n - 1)
        yield n
        yield from tree(n // 3)
    allocates()


def many():
    """The frame itself waits at a depth of so many loops, raises there, and goes on to the next."""
    depth = 9
    source = "def nested():\n"
    for level in range(depth):
        source += "    " * (level + 1) + f"for x{level} in generates():\n"
        inner = "    " * (level + 2)
        for width in WIDTHS:
            source += f"{inner}try:\n{inner}    {wide(width, 'raises()')}\n{inner}except ValueError:\n{inner}    pass\n"
    for level in reversed(range(depth)):
        source += "    " * (level + 2) + "if level_done(%d): break\n" % level
    exec(compile(source, __file__, "exec"), globals())
    nested()


COUNTS = collections.Counter()


def level_done(level):
    COUNTS[level] += 1
    return COUNTS[level] % 3 != 0


for _ in range(20):
    from_c()
    iterates()
    asyncio.run(awaits())
    collections.deque(delegates(), maxlen=0)
    loops()
    shims()
    properties()
for n in range(30):
    through(n)
    sum(tree(n))
many()
