"""oracle.py [N]: a heap of many kinds of objects (zoo.py, N rounds), and what it knows of itself, to judge pydefrag by.

Beside those of serve.py:

    planted FILE       [[kind, id, sys.getsizeof, type, "planted" or "other"], ...] as JSON
    facts FILE         tracked objects per type, names of all types, slack, as JSON
    judge FILE OUT     rows of `pydefrag snapshot --json --blocks`, and what is wrong with them, as JSON

A question is asked after pydefrag has looked, and answering it makes and drops objects. So before READY all
objects were found once, and their addresses kept; only what is at the same place both times is judged by.
What was live when pydefrag looked and is gone by now is told by its block: pymalloc has it on a pool's list, or
something is in it that was not there before. The test allows a few of those, for they are not checked.
"""

import array
import gc
import io
import json
import sys
import types

import serve
import truth
import zoo

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 30000
SHOWN = 20  # of each sort of mistake
BEFORE = array.array("Q")


def write(file, value):
    with open(file, "w") as out:
        # Not json.dump: its closures are garbage for the collector, which is off.
        out.write(json.dumps(value))


def planted(file):
    rows = []
    for name, kinds in (("planted", zoo.PLANTED), ("other", zoo.OTHERS)):
        rows += [(kind, id(one), sys.getsizeof(one), truth.type_name(type(one)), name) for kind, one in kinds]
    write(file, rows)


def facts(file):
    tracked = truth.tracked_by_type()
    objects = truth.everything()
    counts = {}
    for one in objects.values():
        name = truth.type_name(type(one))
        counts[name] = counts.get(name, 0) + 1
    kinds = {id(type(one)): type(one) for one in objects.values()}
    kinds.update(truth.all_types())
    write(file, {
        "tracked": tracked,
        "names": sorted(filter(None, map(truth.type_name, kinds.values()))),
        "counts": {name: count for name, count in counts.items() if name and name.startswith("zoo.")},
        "slack": truth.slack(objects, truth.interned_dicts(objects)),
        "frozen": gc.get_freeze_count(),
        "objects": len(objects),
    })


class Verdict:
    """What is right and wrong, counted; of what is wrong the first few in words."""

    def __init__(self):
        self.counts = {}
        self.wrong = {}

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def mistake(self, what, row, why):
        self.count(what)
        shown = self.wrong.setdefault(what, [])
        if len(shown) < SHOWN:
            shown.append("%s: %r" % (why, row))


class Judge:
    def __init__(self):
        self.objects = truth.everything()
        self.buffers = truth.buffers(self.objects)
        self.kinds = truth.all_types()
        for one in list(self.objects.values()):
            self.kinds[id(type(one))] = type(one)
        self.verdict = Verdict()

    def stable(self, address):
        """The object at this address, if it was there before pydefrag looked."""
        return address in self.objects and truth.has(BEFORE, address)

    def object_in(self, row):
        """The object that Python knows in this block: the collector's head and a pre-header may come first."""
        starts = range(row["address"], row["address"] + min(row["size"] - 15, 33), 16)
        return next(filter(self.stable, starts), None)

    def row(self, row):
        self.verdict.count("rows")
        role, known = row["role"], self.object_in(row)
        if role == "object":
            self.typed(row, known)
        elif known is not None and role == "unknown":
            self.verdict.mistake("missed", row, "is a %s" % self.name(known))
        elif known is not None:
            self.verdict.mistake("wrong_type", row, "is the %s at %#x" % (self.name(known), known))
        elif role in ("unknown", "native", "free_listed"):
            self.verdict.count(role)
        else:
            self.buffer(row)

    def name(self, address):
        return truth.type_name(type(self.objects[address]))

    def typed(self, row, known):
        at, address = row["object"], row["address"]
        if not isinstance(at, int) or not address <= at < address + row["size"]:
            self.verdict.mistake("wrong_type", row, "the object is not in its block")
        elif known is not None:
            self.compared(row, known)
        elif address in self.buffers and self.stable(self.buffers[address][1]):
            self.verdict.mistake("wrong_type", row, "is a buffer: %r" % (self.buffers[address],))
        else:
            # Nothing that Python can reach. What is there now must have the type that was told.
            kind = self.kinds.get(truth.word(at + 8))
            if kind is not None and truth.type_name(kind) == row["type"]:
                self.verdict.count("not_reached")
            elif self.is_gone(row):
                self.verdict.count("gone")
            else:
                # Python never reached it, as it does not reach the buffer of a pending os.read: it changed, or was told
                # wrongly. The test allows a handful.
                self.verdict.mistake("changed", row, "there is %r" % (kind and truth.type_name(kind),))

    def is_gone(self, row):
        """Whether what pydefrag saw was freed since: the block is free, or in use by what was not there before."""
        address = row["address"]
        if truth.is_free(address):
            return True
        starts = range(address, address + min(row["size"] - 15, 33), 16)
        now = [start for start in starts if start in self.objects]
        owner = self.buffers.get(address, (None, None, None))[1]
        return bool(now) and not self.stable(now[0]) or owner is not None and not self.stable(owner)

    def compared(self, row, known):
        one = self.objects[known]
        if row["object"] != known:
            self.verdict.mistake("wrong_type", row, "the object is at %#x" % known)
            return
        name = truth.type_name(type(one))
        if name is not None and name != row["type"]:
            self.verdict.mistake("wrong_type", row, "is a %s" % name)
            return
        self.verdict.count("typed")
        if bool(row["tracked"]) != gc.is_tracked(one):
            self.verdict.mistake("wrong_tracked", row, "is_tracked says otherwise")
        told = row.get("sizeof")
        # A class may say what it likes of its size; code grows a cache where it is run often (up to 3.10), and
        # a BytesIO counts its bytes only while nobody else, as we do here, refers to them.
        says = isinstance(getattr(type(one), "__sizeof__", None), types.FunctionType)
        if told is not None and not says and type(one) not in (types.CodeType, io.BytesIO):
            size = sys.getsizeof(one)
            if size != told:
                self.verdict.mistake("wrong_size", row, "getsizeof is %d" % size)

    def buffer(self, row):
        owner, slot, address = row["owner"], row["slot"], row["address"]
        if owner is None or slot is None:
            self.verdict.mistake("wrong_owner", row, "a buffer without an owner or a slot")
            return
        expected = self.buffers.get(address)
        if expected is not None and self.stable(expected[1]) and expected != (row["role"], owner, slot):
            self.verdict.mistake("wrong_owner", row, "is %r" % (expected,))
            return
        held = truth.word(slot)
        if held is None or not address <= held < address + row["size"]:
            if self.is_gone(row):
                self.verdict.count("gone")
            else:
                sort = "wrong_owner" if self.stable(owner) or not truth.pool_of(owner) else "changed"
                self.verdict.mistake(sort, row, "its slot holds %r" % (held and hex(held),))
            return
        if not self.is_in(slot, owner):
            self.verdict.mistake("wrong_owner", row, "the slot is not in its owner")
            return
        if self.stable(owner) and truth.type_name(type(self.objects[owner])) not in (row["type"], None):
            self.verdict.mistake("wrong_owner", row, "the owner is a %s" % self.name(owner))
            return
        self.verdict.count("owned")

    def is_in(self, slot, owner):
        """Whether a slot is inside its owner's block: pymalloc's, or else what the owner's type asks for."""
        block = truth.pool_of(owner)
        if block is not None:
            return block[0] <= slot < block[0] + block[1]
        size = truth.word(owner - 8)
        if owner in self.objects:
            kind = type(self.objects[owner])
            size = kind.__basicsize__ + 512
            if kind.__itemsize__:
                size += abs(truth.i64(owner + 16)) * kind.__itemsize__ if not isinstance(self.objects[owner], int) else 0
        # A chunk of malloc's has its size in front of it.
        return size is not None and owner - 32 <= slot < owner + max(size & ~7, 64)


def judge(file, out):
    judge = Judge()
    with open(file) as rows:
        for row in json.load(rows):
            judge.row(row)
    write(out, {"counts": judge.verdict.counts, "wrong": judge.verdict.wrong})
    # It is among what it found.
    judge.objects.clear()


zoo.import_much()
KEEPER = zoo.build(ROUNDS)
STOP, THREADS = zoo.start_threads(8)
# Whatever the questions make once is made before READY.
EMPTY = "/dev/null"
planted(EMPTY)
facts(EMPTY)
write(EMPTY, [len(Judge().buffers), json.loads("[]")])
gc.collect()
BEFORE.extend(sorted(truth.everything()))

serve.serve({"planted": planted, "facts": facts, "judge": judge}, also=["planted /dev/null"])
