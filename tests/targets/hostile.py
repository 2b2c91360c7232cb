"""hostile.py KIND: containers, types and bytes that are hard on whoever reads them from outside.

Nothing here runs once it is planted but serve.py: what is poked into objects is never followed by CPython.
"""

import collections
import ctypes
import gc
import os
import struct
import sys

import serve

KIND = sys.argv[1]
MARKER = "do-not-show-me"
WORD = struct.Struct("<Q")


def poke(address, value):
    ctypes.c_uint64.from_address(address).value = value & 0xFFFFFFFFFFFFFFFF


def peek(address):
    return ctypes.c_uint64.from_address(address).value


def cyclic():
    lists = [[] for _ in range(20000)]
    for number, one in enumerate(lists):
        one.append(one)
        one.append(lists[(number * 7919 + 1) % len(lists)])
        one.append(lists)
    own = {}
    own["me"] = own
    own["us"] = [own, (own, lists)]
    ring = collections.deque()
    ring.append(ring)
    return lists, own, ring


def deep():
    top = None
    for _ in range(1000000):
        top = [top]
    chain = None
    for number in range(1000000):
        chain = (chain, number)
    nested = {}
    for _ in range(100000):
        nested = {"next": nested}
    return top, chain, nested


def enormous():
    return [None] * 20000000, {n: None for n in range(2000000)}, set(range(1000000)), "x" * 50000000, bytearray(50000000)


def names():
    """Types whose names are bad for a terminal, a page, a parser or a buffer."""
    made = []
    bad = ["\x1b[2J\x1b]0;owned\x07", "a\nb\r\tc", "<script>alert(1)</script>&amp;", "%s%n{0}{{x}}", "", " ", "x" * 1000000,
           "\u202e\u2066right to left", "'; DROP TABLE --", "[bold red]markup[/]", "\u20ac" * 70000, "a.b.c -> d[e]"]
    for name in bad:
        kind = type(name, (), {})
        kind.__module__ = name
        made.append([kind() for _ in range(300)])
    for module, qualname in [("\ud800", "\udfff\ud800"), (MARKER.encode(), "bytes for a module"), (None, "none"), (12, "twelve"),
                             ("x" * 1000000, "y" * 1000000), ("\x00", "nul \x00 inside"), (["list"], "list")]:
        kind = type("Plain", (), {})
        kind.__qualname__ = qualname
        kind.__module__ = module
        made.append([kind() for _ in range(300)])
    # A property, and none at all.
    kind = type("Property", (), {"__module__": property(lambda self: 1)})
    made.append([kind() for _ in range(300)])
    # Attributes, and a module, with such names.
    attributes = type("Attributes", (), {})
    one = attributes()
    for name in bad + ["\ud800"]:
        one.__dict__[name] = [name]
        globals()["\x1b[31m" + name[:100]] = [bytearray(300) for _ in range(300)]
    made.append(one)
    return made


def torn():
    """Objects half built, with counts and pointers that mean nothing."""
    garbage = [0, 1, -1, 1 << 63, 1 << 62, 0x4141414141414141, id(list), id(None), 8, 0xFFFFFFFF]
    torn = type("Torn", (), {})
    slots = type("TornSlots", (), {"__slots__": ("a", "b", "c")})
    made, pokes = [], []
    for value in garbage:
        for field in range(0, 48, 8):
            number = len(made)
            several = [[1, 2, 3], {"a": number}, {number: 2}, set(range(20)), bytearray(40), (1, 2, number), collections.deque(range(100)),
                       "text of some length: %d" % number, "\u03b1 text %d" % number, b"bytes %d" % number, 10 ** 50 + number,
                       number + 0.5, torn(), slots()]
            made += several
            # Not behind its end: there the next object may be one that we need.
            pokes += [(id(one) + field, value) for one in several if field + 8 <= type(one).__basicsize__]
    del several
    # By addresses alone: from here on nobody takes or drops a reference to one of them.
    for address, value in pokes:
        poke(address, value)
    kinds = [type("TornType%d" % n, (), {}) for n in range(600)]
    rows = iter(kinds)
    for value in garbage + [id(kinds[0]), id(kinds[0]) + 8]:
        for field in (24, 32, 40, 168, 256, 264, 288, 336, 344):
            kind = next(rows)
            made.append([kind() for _ in range(20)])
            poke(id(kind) + field, value)
    # A base that is itself, dicts that share a table with a list, blocks of a deque in a ring.
    loop = next(rows)
    made.append([loop() for _ in range(20)])
    poke(id(loop) + 256, id(loop))
    one, other = {"a": 1}, [1]
    poke(id(one) + 32, peek(id(other) + 24))
    poke(id(other) + 24, id(other))
    ring = collections.deque(range(1000))
    first = peek(id(ring) + 24)
    poke(first, first)
    poke(first + 65 * 8, first)
    # Links of the collector that lead nowhere, or round and round without their head.
    linked = [[n] for n in range(100)]
    poke(id(linked[10]) - 16, id(linked[10]) - 16)
    poke(id(linked[50]) - 16, 0x4242424242424240)
    return made, kinds, one, other, ring, linked


def fakes():
    """Bytes that look like objects, and types that are their own type."""
    made = []
    for kind in (list, dict, tuple, str, type, set, bytearray, collections.deque):
        for size in (48, 64, 96, 160, 256, 496):
            for refcount in (1, 3, 1 << 30):
                words = [refcount, id(kind)] + [1 << 40] * (size // 8 - 2)
                data = bytearray(b"".join(map(WORD.pack, words)))
                made.append(data)
                made += [bytes(b"\0" * 8 + data)[8:] for _ in range(100)]
    # Inside a large buffer: each object of the type that comes next, flags as of a type that is ready.
    area = bytearray(1 << 22)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for at in range(0, len(area) - 512, 512):
        here = base + at
        fields = [(0, 1), (8, base + (at + 512) % (len(area) - 512)), (24, here + 400), (32, 1 << 50), (40, 1), (168, 0xFFFFFFFFFFFF),
                  (256, here), (264, here), (336, here), (400, 0x41414141)]
        for field, value in fields:
            WORD.pack_into(area, at + field, value)
    # Objects, really allocated, whose type is such a fake, or one of themselves.
    for number in range(2000):
        one = bytearray(b"\1" + b"\0" * 99)
        address = peek(id(one) + 40)
        WORD.pack_into(one, 8, (base + 512 * number, address, id(type), id(int))[number % 4])
        made.append(one)
    return made, area


def secrets():
    """The marker in every sort of content."""
    texts = [MARKER + " again" for _ in range(3)]
    copies = [(MARKER + " copy %d" % (n % 7)) for n in range(20000)]
    encoded = [(MARKER + " bytes %d" % (n % 7)).encode() for n in range(20000)]
    keys = {MARKER + " key %d" % n: [n] * 200 for n in range(3000)}
    wide = ["\u03b1" + MARKER + " wide" for _ in range(3000)]
    buffers = [bytearray((MARKER * 20).encode()) for _ in range(3000)]
    nested = {MARKER: {MARKER + " inner": {MARKER + " leaf": [bytearray(500) for _ in range(3000)]}}}
    return texts, copies, encoded, keys, wide, buffers, nested


gc.collect()
gc.disable()
serve.rehearse({}, ())
PLANTED = globals()[KIND]()
serve.ready()
serve.answer_all({})
# Nothing of this may be torn down.
os._exit(0)
