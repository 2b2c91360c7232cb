"""Objects of many kinds: all that oracle.py asks about. Runs on 3.8 and everything later.

PLANTED has the kinds whose size must be told exactly, OTHERS kinds whose size may be left open.
"""

import abc
import array
import asyncio
import collections
import contextvars
import ctypes
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import io
import itertools
import json
import re
import sys
import threading
import types
import weakref

STDLIB = (
    "argparse ast asyncio base64 bisect calendar cmd codecs collections.abc concurrent.futures configparser contextlib copy"
    " csv ctypes.util difflib dis doctest email.message email.mime.text email.parser fileinput fnmatch ftplib getopt getpass"
    " gettext glob gzip hashlib heapq hmac html.parser http.client http.cookies http.server imaplib inspect ipaddress"
    " linecache locale logging.config logging.handlers lzma mailbox mimetypes multiprocessing.pool netrc nntplib numbers"
    " optparse pathlib pdb pickle pickletools pkgutil platform plistlib poplib pprint profile pstats pydoc queue quopri random"
    " sched secrets selectors shelve shlex shutil smtplib socketserver sqlite3 ssl statistics string stringprep subprocess"
    " symtable sysconfig tarfile telnetlib tempfile textwrap timeit token tokenize trace traceback typing unittest.mock"
    " urllib.request urllib.robotparser uuid venv wave wsgiref.simple_server xml.dom.minidom xml.etree.ElementTree"
    " xml.sax.handler xmlrpc.client xmlrpc.server zipapp zipfile zoneinfo"
).split()


def import_much():
    for name in STDLIB:
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # gone in later versions, or not packed


class Plain:
    def __init__(self, number):
        self.number = number
        self.name = "plain %d" % number


class Slotted:
    __slots__ = ("a", "b", "__weakref__")

    def __init__(self, a, b):
        self.a, self.b = a, b


class SlottedAndDict(Slotted):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.more = (a, b)


class Lists(list):
    pass


class SlottedLists(list):
    __slots__ = ("extra",)


class Dicts(dict):
    pass


class Strings(str):
    pass


class SlottedStrings(str):
    __slots__ = ()


class Ints(int):
    pass


class Tuples(tuple):
    __slots__ = ()


class TuplesWithDict(tuple):
    pass


class Bytes(bytes):
    pass


class Floats(float):
    __slots__ = ()


class Sets(set):
    pass


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self):
        """Nothing."""


class Failed(Exception):
    def __init__(self, text, code):
        super().__init__(text)
        self.code = code


class Odd(enum.IntEnum):
    ONE = 1
    THREE = 3
    LARGE = 10 ** 30 + 1


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Data:
    number: int
    text: str
    items: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, order=True)
class Frozen:
    number: int


Pair = collections.namedtuple("Pair", "left right")


class Struct(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_double), ("c", ctypes.c_char * 40)]


class Outer:
    class Inner:
        def __init__(self, value):
            self.value = value


def local_class():
    class Local:
        __slots__ = ("x",)

    return Local


Local = local_class()


def counting(start):
    total = start

    def add(number):
        nonlocal total
        total += number
        return total

    return add


def generating(count):
    held = ["held by a generator %d" % count]
    for number in range(count):
        yield number, held


async def waiting(number):
    held = {"coroutine": number}
    await asyncio.sleep(number)
    return held


async def async_generating(number):
    yield number


@functools.lru_cache(maxsize=5000)
def cached(number):
    return "cached %d" % number


@functools.lru_cache(maxsize=None)
def cached_unbounded(number, other=None):
    return [number]


def failing(depth):
    local = "local of a frame in a traceback %d" % depth
    if depth:
        failing(depth - 1)
    raise Failed(local, depth)


def caught(depth):
    try:
        failing(depth)
    except Failed as failure:
        return failure


def grown_list(number):
    made = []
    for item in range(number):
        made.append(item)
    return made


def shrunk_list(number):
    made = grown_list(number)
    del made[number * 2 // 3:]
    return made


def shrunk_dict(count, left):
    made = {number: str(number) for number in range(count)}
    for number in range(left, count):
        del made[number]
    return made


def shrunk_set(count, left):
    made = set(range(count))
    for number in range(left, count):
        made.discard(number)
    return made


def grown_bytearray(count):
    made = bytearray()
    for number in range(count):
        made += b"%d," % number
    return made


def shrunk_bytearray(count):
    made = bytearray(count)
    del made[count * 3 // 4:]
    return made


def with_utf8(text):
    """The string, with its UTF-8 kept: PyUnicode_AsUTF8 does that."""
    as_utf8 = ctypes.pythonapi.PyUnicode_AsUTF8
    as_utf8.argtypes, as_utf8.restype = [ctypes.py_object], ctypes.c_void_p
    as_utf8(text)
    return text


def ordered(count):
    made = collections.OrderedDict((str(number), number) for number in range(count))
    for number in range(0, count, 3):
        del made[str(number)]
    made.move_to_end("1")
    return made


def thread_with_locals(stop, number):
    mine = ["local of thread %d" % number, {"number": number}]
    stop.acquire()
    return mine


def compiled(number):
    source = "def f_{0}(a, b=({0}, 'text {0}')):\n    c = [a, b, {0}.5]\n    return lambda: (c, a)\n".format(number)
    return compile(source, "made %d" % number, "exec")


def document(number):
    text = json.dumps({"id": number, "tags": ["a%d" % number, "b"], "nested": {"x": number * 1.5, "y": None, "z": [[], {}]}})
    return json.loads(text)


def buffered(number):
    stream = io.BytesIO()
    stream.write(b"x" * number)
    return stream


def in_cycle(number):
    one = Plain(number)
    one.self = one
    return one


KINDS = [
    Plain,
    lambda i: Slotted(i, str(i)),
    lambda i: SlottedAndDict(i, float(i)),
    lambda i: Lists(range(i % 20)),
    lambda i: Dicts(a=i, b=str(i)),
    lambda i: Strings("string %d" % i),
    lambda i: Ints(i * 1000003),
    lambda i: Tuples((i, str(i))),
    lambda i: TuplesWithDict((i, 1)),
    lambda i: Bytes(b"bytes %d" % i),
    Floats,
    lambda i: Sets(range(i % 30)),
    lambda i: WithMeta(),
    lambda i: Data(i, "data %d" % i, [i]),
    Frozen,
    lambda i: Pair(i, str(i)),
    lambda i: Struct(i, i * 1.5, b"c"),
    Outer.Inner,
    lambda i: Local(),
    counting,
    generating,
    lambda i: next(generating(i + 1)),
    lambda i: functools.partial(counting, i, *range(i % 3)),
    lambda i: collections.deque(range(i % 150), maxlen=None if i % 2 else 100),
    lambda i: ordered(i % 40 + 2),
    lambda i: collections.defaultdict(list, {i: [i]}),
    lambda i: collections.Counter("abracadabra %d" % i),
    lambda i: frozenset(range(i % 40)),
    lambda i: array.array("d", [i] * (i % 50)),
    lambda i: memoryview(bytearray(b"memory %d" % i)),
    buffered,
    lambda i: io.StringIO("text %d" % i),
    lambda i: decimal.Decimal(i) / 7,
    lambda i: datetime.datetime(2000 + i % 100, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=i % 12))),
    lambda i: datetime.timedelta(days=i),
    lambda i: fractions.Fraction(i, 7),
    lambda i: types.SimpleNamespace(number=i, text=str(i)),
    lambda i: weakref.WeakValueDictionary(),
    lambda i: caught(i % 5),
    lambda i: 3 ** (i % 500 + 40),
    lambda i: complex(i, 1),
    lambda i: "latin \xe9 %d" % i,
    lambda i: with_utf8("greek \u03b1 %d" % i),
    lambda i: "emoji \U0001f40d %d" % i,
    lambda i: b"y" * (i % 700),
    lambda i: range(i, i * 2 + 1000),
    lambda i: slice(i, i + 1000),
    lambda i: iter([i, i]),
    lambda i: itertools.chain([i], (i,)),
    lambda i: map(str, [i]),
    lambda i: zip([i], [str(i)]),
    lambda i: property(counting(i)),
    lambda i: contextvars.copy_context(),
    lambda i: [].append,
    lambda i: Plain(i).__init__,
    lambda i: {"a": i, "b": str(i), "c": [i]},
    document,
    in_cycle,
    lambda i: (lambda: i),
    lambda i: grown_list(i % 60),
    lambda i: shrunk_list(i % 300),
    lambda i: shrunk_dict(i % 100 + 10, i % 7),
    lambda i: shrunk_set(i % 200 + 10, i % 7),
    lambda i: grown_bytearray(i % 100),
    lambda i: shrunk_bytearray(i % 2000),
    lambda i: {i, str(i), float(i)},
    lambda i: set(range(i % 100)),
    lambda i: bytearray(i % 100),
    lambda i: {number: number for number in range(i % 40)},
]


class Keeper:
    """What survives, in containers of every sort, so that all kinds of owners own."""

    def __init__(self):
        self.items = []
        self.rare = []


def build(count):
    """At least five objects for each of `count`, and a tenth of as many again dropped in between."""
    keeper = Keeper()
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        one = kind(number)
        if number % 10:
            keeper.items.append((number, one))
    for number in range(300):
        keeper.rare += [compiled(number), re.compile("a{%d}(b|c)*" % (number + 1)), waiting(number), async_generating(number)]
        keeper.rare.append(types.ModuleType("made_%d" % number, "text"))
        keeper.rare.append(type("Made%d" % number, (Plain,), {"__slots__": ("a", "b"), "method": lambda self: self}))
        cached_unbounded(number, str(number))
    for number in range(4000):
        cached(number)
    keeper.weak = [weakref.ref(one, Keeper) for _, one in keeper.items if type(one) in (Plain, Slotted)]
    keeper.by_weak = weakref.WeakKeyDictionary((one, str(n)) for n, one in keeper.items if type(one) is Slotted)
    keeper.failures = [caught(depth) for depth in range(50)]
    keeper.flags = [Flags.A | Flags.B, Odd.LARGE]
    return keeper


def start_threads(count):
    stop = threading.Lock()
    stop.acquire()
    threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=thread_with_locals, args=(stop, n), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    return stop, threads


def with_dict():
    one = Plain(12345)
    one.__dict__["made"] = "by its __dict__"
    return one


def materialised():
    """The __dict__ of an instance: where values are inline, or keys shared, it says so in its size."""
    return Plain(54321)


class ManyAttributes:
    def __init__(self):
        for number in range(40):
            setattr(self, "attribute_%d" % number, number)


MATERIALISED = materialised()

PLANTED = [
    ("instance", Plain(10 ** 6)),
    ("instance with its __dict__", with_dict()),
    ("instance with many attributes", ManyAttributes()),
    ("slots", Slotted(1, 2)),
    ("slots and dict", SlottedAndDict(1, 2)),
    ("instance without weakrefs", Local()),
    ("__dict__ of an instance", MATERIALISED.__dict__),
    ("subclass of list", Lists(range(30))),
    ("subclass of list with slots", SlottedLists(range(3))),
    ("subclass of dict", Dicts({n: n for n in range(30)})),
    ("subclass of str", Strings("text of a subclass")),
    ("subclass of str, not ASCII", Strings("t\xe9xt of a subclass")),
    ("subclass of str with slots", SlottedStrings("text of another")),
    ("subclass of int", Ints(10 ** 40)),
    ("subclass of int, small", Ints(5)),
    ("subclass of tuple", Tuples(range(9))),
    ("subclass of tuple with dict", TuplesWithDict(range(9))),
    ("subclass of bytes", Bytes(b"bytes of a subclass")),
    ("subclass of float", Floats(2.5)),
    ("subclass of set", Sets(range(50))),
    ("int of one digit", 123456),
    ("int of 67 digits", 10 ** 600),
    ("negative int", -(10 ** 60)),
    ("float", float("2.25")),
    ("str, ASCII", "plain text %d" % len(sys.argv)),
    ("str, Latin-1", "\xe9t\xe9 %d" % len(sys.argv)),
    ("str, two bytes", "\u03b1\u03b2 %d" % len(sys.argv)),
    ("str, four bytes", "\U0001f40d %d" % len(sys.argv)),
    ("str, Latin-1 with UTF-8", with_utf8("na\xefve %d" % len(sys.argv))),
    ("str, two bytes with UTF-8", with_utf8("\u03b3\u03b4 %d" % len(sys.argv))),
    ("str, four bytes with UTF-8", with_utf8("\U0001f600 %d" % len(sys.argv))),
    ("bytes", b"bytes %d" % len(sys.argv)),
    ("large bytes", b"z" * 5000),
    ("tuple", tuple(range(11))),
    ("namedtuple", Pair(1, 2)),
    ("list, exact", [1, 2, 3]),
    ("list, over-allocated", grown_list(100)),
    ("list, shrunk", shrunk_list(100)),
    ("list, empty", []),
    ("dict, str keys", {"a": 1, "b": 2}),
    ("dict, int keys", {n: n for n in range(20)}),
    ("dict after deletes", shrunk_dict(3000, 3)),
    ("dict, empty", {}),
    ("dict, large", {n: n for n in range(70000)}),
    ("set, small", {1, 2, 3}),
    ("set, large", set(range(1000))),
    ("set after deletes", shrunk_set(500, 2)),
    ("frozenset", frozenset(range(100))),
    ("bytearray", bytearray(b"abc")),
    ("bytearray, grown", grown_bytearray(300)),
    ("bytearray, empty", bytearray()),
    ("function", local_class),
    ("closure", counting(1)),
    ("bound method", Plain(1).__init__),
    ("module", types.ModuleType("planted")),
    ("class", Plain),
    ("class with slots", Slotted),
    ("class with a metaclass", WithMeta),
    ("subclass of Exception", Failed("text", 1)),
    ("property", property(counting(2))),
    ("weak reference", weakref.ref(MATERIALISED)),
    ("partial", functools.partial(counting, 3)),
]

OTHERS = [
    ("code", compiled(7)),
    ("generator", generating(3)),
    ("deque", collections.deque(range(200))),
    ("OrderedDict", ordered(100)),
    ("defaultdict", collections.defaultdict(list, {n: n for n in range(9)})),
    ("Counter", collections.Counter("mississippi")),
    ("array", array.array("d", range(100))),
    ("BytesIO", buffered(3000)),
    ("StringIO", io.StringIO("text")),
    ("Decimal", decimal.Decimal(10) ** 60 + 1),
    ("datetime", datetime.datetime(2020, 2, 2)),
    ("pattern", re.compile("p(l)anted")),
    ("ctypes structure", Struct(1, 2.0, b"3")),
    ("memoryview", memoryview(b"abc")),
]
