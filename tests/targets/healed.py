"""healed.py SCENARIO: purges in the middle of something, and checks that nothing came to harm.

Ends with 0 and a last line OK where all was well. 3.10 and later.
"""

import gc
import hashlib
import os
import random
import subprocess
import sys
import threading
import time

import agent


class Point:
    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __repr__(self):
        return "P(%r,%r)" % (self.a, self.b)


class Node:
    def __init__(self, name):
        self.name = name
        self.links = []

    def __repr__(self):
        return "N(%r,%r)" % (self.name, self.links)


def make(i, random):
    """One of many kinds, by chance."""
    kind = random.randrange(10)
    if kind == 0:
        return "s%d" % i * random.randrange(1, 20)
    if kind == 1:
        return (i, i + 1, "t%d" % i)
    if kind == 2:
        return {"a": i, "b": [i]}
    if kind == 3:
        return [i] * random.randrange(1, 30)
    if kind == 4:
        return float(i)
    if kind == 5:
        return b"b%d" % i * random.randrange(1, 30)
    if kind == 6:
        return Point(i, str(i))
    if kind == 7:
        return frozenset((i, -i))
    if kind == 8:
        node = Node("n%d" % i)
        node.links.append((i,))
        return node
    return 10**12 + i


def deep(objects):
    """A hash of all that they hold, sets in order."""
    digest = hashlib.sha256()
    for one in objects:
        text = repr(sorted(one)) if isinstance(one, frozenset) else repr(one)
        digest.update(text.encode())
    return digest.hexdigest()


def mixed(count, share, seed=1):
    chance = random.Random(seed)
    everything = [make(i, chance) for i in range(count)]
    return [one for one in everything if chance.random() < share]


def survivors():
    """100 rounds of churn and purge, or as many as are told: what survives is what it was."""
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    chance = random.Random(1)
    kept = mixed(200000, 0.05)
    before = deep(kept)
    parked = dropped = 0
    lasting = [None] * 3
    for n in range(rounds):
        # Bursts of one kind leave whole pools free, between others that last; a mixture leaves pages free in pools.
        if n % 4 == 3:
            extra = [make(i, chance) for i in range(chance.randrange(20000))]
        else:
            size = chance.randrange(1, 40)
            extra = [b"%8d" % i * size for i in range(chance.randrange(60000))]
        lasting.append(extra[:: chance.randrange(2, 50)])
        del extra
        lasting.pop(0)
        done = agent.purge()
        parked += done["pools_parked"]
        dropped += done["bytes_dropped"]
        assert deep(kept) == before, "round %d" % n
    assert parked > 10 * rounds and dropped > rounds << 16, (parked, dropped)
    assert agent.call("status")["pools_unparked"] > rounds


def gives_back():
    """RSS falls by what was dropped."""
    chance = random.Random(3)
    everything = [("k%d" % i if i % 20 == 0 else [i, (i,)]) for i in range(400000)]
    kept = everything[::20]
    del everything
    gc.collect()
    # What it needs itself is there from then on, and malloc has nothing more to give.
    agent.call("check")
    agent.call("trim")
    before = agent.field("Rss")
    done = agent.purge()
    after = agent.field("Rss")
    assert done["bytes_dropped"] > 15 << 20, done
    assert abs((before - after) - done["bytes_dropped"]) < 1 << 20, (before, after, done)
    again = agent.purge()
    assert again["bytes_dropped"] < 1 << 20, again
    assert 0 < agent.weight() <= 256 << 10, agent.weight()
    # What was parked serves again, before any new arena does for long.
    more = [(i,) for i in range(300000)]
    time.sleep(0.2)
    assert agent.call("status")["pools_unparked"] >= 64 + 128
    assert len(kept) == 20000 and len(more) == 300000


def threads():
    """Threads that allocate, and threads in C code that has released the GIL."""
    import zlib

    agent.call("auto", every_ms=20, always=True)
    until = time.monotonic() + 3
    faults = []

    def churn(seed):
        chance = random.Random(seed)
        mine = {}
        while time.monotonic() < until:
            for _ in range(500):
                i = chance.randrange(5000)
                mine[i] = (i, make(i, chance))
                mine.pop(chance.randrange(5000), None)
            if any(i != value[0] for i, value in mine.items()):
                faults.append(seed)

    def compress():
        text = b"".join(b"%d," % i for i in range(200000))
        expected = zlib.compress(text)
        digest = hashlib.sha256(text).digest()
        while time.monotonic() < until:
            # Both release the GIL while they read and write buffers of ours.
            if zlib.compress(text) != expected or hashlib.sha256(text).digest() != digest:
                faults.append("zlib")

    all_threads = [threading.Thread(target=churn, args=(n,)) for n in range(3)]
    all_threads.append(threading.Thread(target=compress))
    for thread in all_threads:
        thread.start()
    for thread in all_threads:
        thread.join()
    assert not faults, faults
    assert agent.call("status")["heals"] >= 5


def asyncio():
    import asyncio

    agent.call("auto", every_ms=20, always=True)

    async def echo(reader, writer):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    async def client(port, n):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in range(200):
            text = b"%d %d %s\n" % (n, i, b"x" * (i % 300))
            writer.write(text)
            assert await reader.readline() == text
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        until = time.monotonic() + 2
        while time.monotonic() < until:
            await asyncio.gather(*[client(port, n) for n in range(10)])
        server.close()

    asyncio.run(main())
    assert agent.call("status")["heals"] >= 5


def forks():
    """os.fork while the agent heals: no warning, children heal too, and both are whole."""
    import warnings

    warnings.simplefilter("error")
    kept = mixed(200000, 0.1)
    before = deep(kept)
    agent.call("auto", every_ms=10, always=True)
    for n in range(30):
        time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            own = [make(i, random) for i in range(20000)][::10]
            first = agent.call("status")["heals"]
            patience = time.monotonic() + 20
            while agent.call("status")["heals"] < first + 2 and time.monotonic() < patience:
                time.sleep(0.01)
            healed = agent.call("status")["heals"] >= first + 2
            os._exit(0 if healed and deep(kept) == before and own else 1)
        assert os.waitpid(pid, 0)[1] == 0
        kept.append(kept.pop())
    assert deep(kept) == before
    assert agent.call("status")["heals"] >= 10


def fork_from_a_thread():
    """A fork in one thread in the middle of a purge that another one called for."""
    kept = mixed(300000, 0.1)
    before = deep(kept)
    stop = threading.Event()

    def heal():
        while not stop.is_set():
            try:
                agent.call("purge", slice_us=200)
            except RuntimeError as error:
                assert "another heal" in str(error), error

    healer = threading.Thread(target=heal)
    healer.start()
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            agent.purge()
            os._exit(0 if deep(kept) == before else 1)
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    healer.join()
    assert deep(kept) == before


def subinterpreters():
    """Others come, allocate and go, with a GIL of their own where there is one; only the main one is purged."""
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    run = getattr(interpreters, "exec", None) or interpreters.run_string
    kept = mixed(200000, 0.05)
    before = deep(kept)
    agent.call("auto", every_ms=20, always=True)
    first = agent.call("status")["heals"]
    for n in range(10):
        one = interpreters.create()
        failed = run(one, "x = [str(i) * 3 for i in range(50000)]; y = x[::7]; del x; assert y[3] == '21' * 3")
        assert not failed, failed
        interpreters.destroy(one)
    time.sleep(0.3)
    assert deep(kept) == before
    assert agent.call("status")["heals"] > first
    one = interpreters.create()
    code = (
        "import sys; sys.path[:0] = %r\n"
        "try:\n import agent\n"
        "except ImportError as e:\n assert 'main interpreter' in str(e) or 'subinterpreters' in str(e), e\n"
        "else:\n raise SystemError('loaded')" % [os.path.dirname(os.path.abspath(__file__))]
    )
    failed = run(one, code)
    assert not failed, failed


def frozen():
    kept = mixed(200000, 0.05)
    before = deep(kept)
    gc.freeze()
    agent.purge()
    more = mixed(100000, 0.05, 2)
    agent.purge()
    gc.unfreeze()
    gc.collect()
    agent.purge()
    assert deep(kept) == before and more


def in_a_collection():
    """A purge from a finalizer and from the collector's callbacks."""
    kept = mixed(100000, 0.05)
    before = deep(kept)
    done = []

    class Finalized:
        def __init__(self):
            self.me = self

        def __del__(self):
            done.append(agent.purge())

    def callback(phase, info):
        done.append(agent.purge())

    gc.callbacks.append(callback)
    for _ in range(5):
        Finalized()
        gc.collect()
    gc.callbacks.remove(callback)
    assert len(done) >= 15 and deep(kept) == before


def policy():
    """Heals in a trough, not in a peak, and waits when what came back is wanted again."""
    agent.call("auto", every_ms=100)
    heals = lambda: agent.call("status")["heals"]

    def until(wanted, seconds):
        patience = time.monotonic() + seconds
        while not wanted() and time.monotonic() < patience:
            time.sleep(0.05)
        return wanted()

    def peak():
        return [("k%d" % i) if i % 20 == 0 else [i, (i,)] for i in range(300000)]

    everything = peak()
    time.sleep(1.5)
    assert heals() == 0, "healed in a peak"
    kept = everything[::20]
    del everything
    assert until(lambda: heals() == 1, 20), "did not heal in a trough"
    time.sleep(1)
    assert heals() == 1, "healed again with nothing new"
    # What was given back is wanted again at once: no more heals for a while, however often that happens.
    for _ in range(3):
        more = peak()
        time.sleep(0.5)
        del more
        time.sleep(0.7)
    assert heals() <= 2, heals()
    assert len(kept) == 15000
    # A worker that can do nothing about free pools, for its master shares them, tries once and not again.
    agent.call("stop")
    more = peak()
    del more
    pid = os.fork()
    if pid == 0:
        first = heals()
        agent.call("auto", every_ms=50)
        time.sleep(3)
        os._exit(heals() - first)
    tried = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert tried <= 1, tried


def collects():
    """Collections happen where they are asked for, and only there."""
    seen = []
    gc.disable()
    gc.callbacks.append(lambda phase, info: seen.append(phase))
    agent.purge()
    agent.call("trim")
    assert not seen
    loop = []
    loop.append(loop)
    del loop
    done = agent.purge(collect=True)
    assert seen.count("start") == 1 and done["collected"] >= 1, (seen, done)


def hooks():
    """Debug hooks, tracemalloc, and another tool's arena allocator: purged all the same, or refused."""
    import ctypes
    import tracemalloc

    class Arena(ctypes.Structure):
        _fields_ = [("ctx", ctypes.c_void_p), ("alloc", ctypes.c_void_p), ("free", ctypes.c_void_p)]

    tracemalloc.start()
    kept = mixed(100000, 0.05)
    before = deep(kept)
    agent.purge()
    tracemalloc.stop()
    # Another tool takes the arena allocator, and gives it back.
    api = ctypes.pythonapi
    first, second = Arena(), Arena()
    api.PyObject_GetArenaAllocator(ctypes.byref(first))
    ALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    theirs = ALLOC(first.alloc)
    seen = []
    mine = ALLOC(lambda ctx, size: theirs(ctx, size))
    second.ctx, second.alloc, second.free = first.ctx, ctypes.cast(mine, ctypes.c_void_p).value, first.free
    agent.purge()
    assert deep(kept) == before
    more = mixed(200000, 0.02, 5)
    agent.purge()
    assert deep(kept) == before and more


def with_malloc():
    """PYTHONMALLOC=malloc: nothing to purge, malloc is trimmed, and it is said."""
    kept = mixed(100000, 0.05)
    done = agent.call("purge")
    assert done["trim"] and any("pymalloc" in why for why in done["skipped"]), done
    assert done["pools_parked"] == 0
    try:
        agent.call("check")
    except RuntimeError as error:
        assert "pymalloc" in str(error), error
    else:
        raise AssertionError("no refusal")
    assert kept


def bad_requests():
    for request, words in [
        (dict(do="purge", slice_us=0), "slice"),
        (dict(do="purge", slice_us=10**9), "slice"),
        (dict(do="dance"), "request"),
        (dict(do="purge", colour=1), "request"),
        (dict(do="auto", every_ms=0), "every"),
        (dict(do="snapshot", path="/nonexistent/x.pdsnap"), "written"),
        (dict(do="on_signal", signal=9, folder="/tmp"), "signal"),
        (dict(do="on_signal", signal=10, folder="/nonexistent"), "folder"),
    ]:
        try:
            agent.call(**request)
        except RuntimeError as error:
            assert words in str(error), (request, error)
        else:
            raise AssertionError(request)
    for text in ["", "{", "[]", "\x00", "{}" * 1000]:
        assert "refused" in agent.MODULE.call(text)
    for bad in [None, 3, b"x"]:
        try:
            agent.MODULE.call(bad)
        except TypeError:
            pass
        else:
            raise AssertionError(bad)


def exits():
    """One of many ends after a heal; the caller counts."""
    how = sys.argv[2]
    kept = mixed(20000, 0.05)
    agent.purge()
    agent.call("auto", every_ms=10, always=True)
    if how == "daemon":
        threading.Thread(target=lambda: [mixed(1000, 0.1) for _ in iter(int, 1)], daemon=True).start()
        time.sleep(0.05)
    if how == "purging":
        # Until 3.13 the interpreter ends such threads where they ask for the GIL.
        def forever():
            while True:
                try:
                    agent.call("purge", slice_us=100)
                except RuntimeError:
                    # Another one's turn, or the end. Not a word: at the end nobody may write to stderr.
                    pass

        for _ in range(3):
            threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.02)
        # CPython itself aborts where a daemon thread is in the middle of a write to stderr.
        threading.excepthook = lambda args: None
    print("OK", flush=True)
    if how == "raise":
        sys.stderr = open(os.devnull, "w")
        raise ValueError
    if how == "exit":
        sys.exit(0)
    if how == "_exit":
        os._exit(0)
    if how == "cleared":
        import atexit

        # Whoever clears the callbacks clears ours: the thread must still not harm the end.
        atexit._clear()
        agent.call("auto", every_ms=10, slice_us=100, always=True)
    assert kept


def swap():
    """A heal swaps nothing in. Needs swap; says so where there is none."""
    with open("/proc/swaps") as swaps:
        if len(swaps.read().splitlines()) < 2:
            print("NO SWAP")
            return
    import ctypes

    kept = mixed(300000, 0.05)
    before = deep(kept)
    libc = ctypes.CDLL(None, use_errno=True)
    # MADV_PAGEOUT (Linux 5.4): reclaim these pages now.
    with open("/proc/self/maps") as maps:
        for line in maps:
            words = line.split()
            if words[1] == "rw-p" and len(words) == 5:
                start, end = (int(n, 16) for n in words[0].split("-"))
                if end - start >= 1 << 20 and end - start < 1 << 32:
                    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), 21)
    swapped = agent.field("Swap")
    assert swapped > 1 << 20, swapped
    done = agent.call("purge")
    after = agent.field("Swap")
    assert after >= swapped - (2 << 20), (swapped, after, done)
    assert deep(kept) == before


globals()[sys.argv[1]]()
print("OK", flush=True)
