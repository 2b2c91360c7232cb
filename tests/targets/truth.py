"""What a process knows of its own objects: which there are, of which type, with which buffers, how much room.

Shares no code with pydefrag: it asks the collector, follows gc.get_referents, and reads its own memory with
ctypes. Runs on 3.8 and everything later; no free-threaded builds.
"""

import bisect
import builtins
import ctypes
import gc
import os
import re
import struct
import sys
import threading
import types

WORD = struct.Struct("<Q")
MEMORY = os.open("/proc/self/mem", os.O_RDONLY)
MODULE = type.__dict__["__module__"].__get__
QUALNAME = type.__dict__["__qualname__"].__get__
POOL = 4096 if sys.version_info < (3, 10) else 16384
DICT_KEYS_HEADER = 40 if sys.version_info < (3, 11) else 32


def word(address):
    """The word there; None where nothing is mapped. Through /proc: a wrong address must not end us."""
    try:
        return WORD.unpack(os.pread(MEMORY, 8, address))[0]
    except (OSError, OverflowError, struct.error):
        return None


def u8(address):
    return ctypes.c_uint8.from_address(address).value


def i64(address):
    return ctypes.c_int64.from_address(address).value


def type_name(kind):
    """`module.Qualname`, builtins without their module; None where somebody put no string there."""
    try:
        module, name = MODULE(kind), QUALNAME(kind)
    except AttributeError:
        return None
    if not isinstance(module, str):
        return None
    return name if module == "builtins" else "%s.%s" % (module, name)


def all_types():
    found, todo = {}, [object]
    while todo:
        kind = todo.pop()
        if id(kind) not in found:
            found[id(kind)] = kind
            todo += type.__subclasses__(kind)
    return found


# Not the attributes that are made when asked for: those are no objects of the heap.
CODE_PARTS = ["co_consts", "co_names", "co_filename", "co_name", "co_linetable", "co_exceptiontable", "co_qualname"]
if sys.version_info < (3, 11):
    CODE_PARTS += ["co_code", "co_varnames", "co_freevars", "co_cellvars"]
if sys.version_info < (3, 10):
    CODE_PARTS += ["co_lnotab"]


PATTERN = type(re.compile(""))
# 3.15 has one that does not change.
DICTS = tuple(getattr(builtins, name) for name in ("dict", "frozendict") if hasattr(builtins, name))


def hidden(one, kind):
    """What an object refers to and does not show the collector."""
    if kind is types.CodeType:
        parts = [getattr(one, part, None) for part in CODE_PARTS]
        if sys.version_info >= (3, 11):
            # co_localsplusnames and co_localspluskinds, which no attribute shows (Include/cpython/code.h).
            parts += [ctypes.cast(i64(id(one) + at), ctypes.py_object).value for at in (96, 104)]
        return parts
    if kind is range or kind is slice:
        return [one.start, one.stop, one.step]
    if kind is PATTERN:
        # The view of its groups is made anew; the dict behind it is the pattern's own (not tracked up to 3.9).
        return gc.get_referents(one.groupindex)
    return ()


def frames():
    """The frames of this thread, which hold what is found here, and those of all others."""
    mine, others = [], []
    for thread, frame in sys._current_frames().items():
        found = mine if thread == threading.get_ident() else others
        while frame is not None:
            found.append(frame)
            frame = frame.f_back
    return mine, others


def everything():
    """Every object that can be found: id -> object."""
    seen = {}
    mine, others = frames()
    # Not through these: each address found would be an object more, and what is found would keep itself.
    seen.update((id(one), one) for one in mine)
    todo = gc.get_objects()
    seen.update({id(seen): seen, id(todo): todo, id(mine): mine, id(others): others})
    todo += all_types().values()
    for frame in others:
        todo.append(frame)
        todo += frame.f_locals.values()
    referents = gc.get_referents
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        todo += referents(one)
        more = hidden(one, type(one))
        if more:
            todo += more
    for one in mine + [seen, todo, mine, others]:
        seen.pop(id(one), None)
    del mine[:], one
    return seen


class Table:
    """The table of a dict's keys, by its address."""

    def __init__(self, address):
        self.address = address
        if sys.version_info < (3, 11):
            self.size = i64(address + 8)
            self.usable, self.entries = i64(address + 24), i64(address + 32)
            width = 1 if self.size <= 0xFF else 2 if self.size <= 0xFFFF else 4
            self.indices, self.entry = self.size * width, 24
        else:
            self.size = 1 << u8(address + 8)
            self.indices = 1 << u8(address + 9)
            self.usable, self.entries = i64(address + 16), i64(address + 24)
            self.entry = 16 if u8(address + 10) else 24

    def bytes(self):
        return DICT_KEYS_HEADER + self.indices + self.size * 2 // 3 * self.entry

    def smallest(self, live):
        """Bytes of the smallest table for so many live entries."""
        size = 8
        while size * 2 // 3 < live:
            size *= 2
        width = 1 if size <= 0xFF else 2 if size <= 0xFFFF else 4
        return DICT_KEYS_HEADER + size * width + size * 2 // 3 * self.entry


def is_apart(address):
    """Whether a dict (by its address) has a table of its own: neither shared keys nor the static empty ones."""
    return not i64(address + 40) and Table(i64(address + 32)).size >= 8


class Room:
    def __init__(self):
        self.containers = self.held = self.bytes = 0

    def add(self, held, spare):
        self.containers += 1
        self.held += held
        self.bytes += spare


def slack(objects, interned):
    """Room that containers hold beyond their items, as Slack in crates/heap defines it.

    list       (allocated - length) * 8, of lists that have a buffer
    set        (mask + 1 - used) * 16, of sets and frozensets whose table is allocated apart
    bytearray  ob_alloc - length, of those that have a buffer (its final NUL counts as spare here)
    dict       of unshared tables: the table's bytes (header, indices, and as many entries as the usable
               fraction, two thirds, of its size) less those of the smallest table, of a power of two of at
               least 8 slots, whose usable fraction holds the live entries; entries stay as wide as they are
    str        cached UTF-8 of strings that are not ASCII, with its final NUL
    """
    rooms = {name: Room() for name in ("list", "dict", "set", "bytearray", "str")}
    for one in objects.values():
        kind, at = type(one), id(one)
        if issubclass(kind, list):
            allocated = i64(at + 32)
            if i64(at + 24):
                rooms["list"].add(allocated * 8, (allocated - i64(at + 16)) * 8)
        elif issubclass(kind, DICTS):
            if is_apart(at):
                table = Table(i64(at + 32))
                rooms["dict"].add(table.bytes(), table.bytes() - table.smallest(i64(at + 16)))
        elif issubclass(kind, (set, frozenset)):
            if i64(at + 40) != at + 64:
                slots = i64(at + 32) + 1
                rooms["set"].add(slots * 16, (slots - i64(at + 24)) * 16)
        elif issubclass(kind, bytearray):
            allocated = i64(at + 24)
            if allocated:
                rooms["bytearray"].add(allocated, allocated - i64(at + 16))
        elif kind is str and not one.isascii():
            # Characters of Latin-1 are static objects from 3.12 on: in no heap.
            if sys.version_info >= (3, 12) and len(one) == 1 and ord(one) < 256:
                continue
            base = 48 if sys.version_info < (3, 12) else 40
            if i64(at + base + 8):
                length = i64(at + base) + 1
                rooms["str"].add(length, length)
    for at in interned:
        if at not in objects:
            table = Table(i64(at + 32))
            rooms["dict"].add(table.bytes(), table.bytes() - table.smallest(i64(at + 16)))
    return {name: vars(room) for name, room in rooms.items()}


def interned_dicts(objects):
    """The dicts of interned strings, by their addresses: no object refers to them.

    Found by what they are: a dict of a thousand entries or more, each of which has the key as its value.
    """
    found = []
    needle = WORD.pack(id(dict))
    with open("/proc/self/maps") as maps:
        regions = [line.split() for line in maps]
    for region in regions:
        if region[1] != "rw-p" or (len(region) > 5 and not region[5].startswith("[heap")):
            continue
        start, end = (int(part, 16) for part in region[0].split("-"))
        for base in range(start, end, 1 << 24):
            try:
                data = os.pread(MEMORY, min(1 << 24, end - base), base)
            except OSError:
                continue
            at = data.find(needle)
            while at >= 0:
                address = base + at - 8
                if address % 8 == 0 and address not in objects and is_interned_dict(address):
                    found.append(address)
                at = data.find(needle, at + 8)
    return found


def is_interned_dict(address):
    used, keys, values = word(address + 16), word(address + 32), word(address + 40)
    if used is None or not 1000 <= used < 1 << 32 or values != 0 or not keys or keys % 8 or word(keys + 32) is None:
        return False
    table = Table(keys)
    if table.size & (table.size - 1) or not 1500 <= table.size < 1 << 32:
        return False
    if table.usable + table.entries != table.size * 2 // 3 or table.entries < used:
        return False
    first = keys + DICT_KEYS_HEADER + table.indices + table.entry - 16
    pairs = [(word(first + n * table.entry), word(first + n * table.entry + 8)) for n in range(100)]
    live = [pair for pair in pairs if pair[1]]
    return len(live) > 20 and all(key == value for key, value in live)


def tracked_by_type():
    """How many objects of each type the collector tracks, without the frozen ones."""
    counts = {}
    for one in gc.get_objects():
        kind = type(one)
        counts[kind] = counts.get(kind, 0) + 1
    named = {}
    for kind, count in counts.items():
        name = type_name(kind)
        named[name] = named.get(name, 0) + count
    return named


def buffers(objects):
    """Where containers keep what is theirs: start of the buffer -> (role, owner, slot)."""
    found = {}
    for one in objects.values():
        kind, at = type(one), id(one)
        if issubclass(kind, list):
            found[i64(at + 24)] = ("items", at, at + 24)
        elif issubclass(kind, DICTS):
            if is_apart(at):
                found[i64(at + 32)] = ("keys", at, at + 32)
        elif issubclass(kind, (set, frozenset)):
            if i64(at + 40) != at + 64:
                found[i64(at + 40)] = ("table", at, at + 40)
        elif issubclass(kind, bytearray) and sys.version_info < (3, 15):
            # From 3.15 on it keeps a bytes object.
            found[i64(at + 32)] = ("data", at, at + 32)
    found.pop(0, None)
    return found


def pool_of(address):
    """Start and size of the block of pymalloc's that holds this address; None where the page's head is not a pool's."""
    pool = address & ~(POOL - 1)
    head, sizes = word(pool), word(pool + 32)
    offsets = word(pool + 40)
    if head is None or sizes is None or offsets is None:
        return None
    live, class_, carved, last = head & 0xFFFFFFFF, sizes >> 32, offsets & 0xFFFFFFFF, offsets >> 32
    size = (class_ + 1) * 16
    if class_ >= 32 or last != POOL - size or not 1 <= live <= (POOL - 48) // size or carved < 48 or (carved - 48) % size:
        return None
    if address < pool + 48:
        return None
    start = pool + 48 + (address - pool - 48) // size * size
    return start, size


def is_free(address):
    """Whether pymalloc has this block on its pool's list of free ones now."""
    pool = address & ~(POOL - 1)
    if pool_of(address) is None:
        return False
    at = word(pool + 8)
    for _ in range(POOL // 16):
        if not at or at & ~(POOL - 1) != pool:
            return False
        if at == address:
            return True
        at = word(at)
    return False


def has(addresses, address):
    """Whether a sorted array has this address."""
    at = bisect.bisect_left(addresses, address)
    return at < len(addresses) and addresses[at] == address
