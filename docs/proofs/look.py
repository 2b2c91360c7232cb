"""look("when"): prints what pydefrag sees of this process now, in one line; MiB.

heading() prints the columns before, and says whose they are: pymalloc's, or malloc's.

The line is made by a process of its own (look.py PID WHOSE WHEN), so that the one that is looked at changes as
little as possible: it waits meanwhile.
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PYDEFRAG = os.environ.get("PYDEFRAG", os.path.join(HERE, "../../target/release/pydefrag"))


def row(when, cells):
    print(("{:<34}" + "{:>8}" * len(cells)).format(when, *cells))


def term(kind, *terms):
    """The sum of terms over the owners of a kind."""
    return lambda s: sum(o[t] for o in s["owners"] if o["kind"] == kind for t in terms)


def owner(name):
    return lambda s: sum(o["resident"] for o in s["owners"] if o["name"] == name)


def rss(snapshot):
    return snapshot["memory"]["rss"]


COLUMNS = {
    "pymalloc": [
        ("RSS", "", rss),
        ("py-", "malloc", term("pymalloc", "resident")),
        ("live", "", term("pymalloc", "live")),
        ("free", "pools", term("pymalloc", "free_spans")),
        ("holes", "", term("pymalloc", "holes")),
        ("pinned", "free", term("pymalloc", "pinned_free")),
    ],
    "malloc": [
        ("RSS", "", rss),
        ("main", "arena", owner("malloc main arena")),
        ("thread", "arenas", owner("malloc thread arenas")),
        ("mmapped", "chunks", owner("malloc mmapped chunks")),
        ("malloc:", "live", term("malloc", "live")),
        ("holes,", "pinned", term("malloc", "holes", "pinned_free")),
        ("top,", "cached", term("malloc", "top", "cached")),
        ("ladder:", "trim", lambda s: s["ladder"]["trim"]),
    ],
}


def heading(whose="pymalloc", stated=True):
    """With `stated` false the columns are known already: a process started by one that printed them."""
    global columns_of
    columns_of = whose
    if stated:
        row("", [top for top, _, _ in COLUMNS[whose]])
        row("MiB", [bottom for _, bottom, _ in COLUMNS[whose]])


columns_of = "pymalloc"


def look(when):
    sys.stdout.flush()
    subprocess.run([sys.executable, __file__, str(os.getpid()), columns_of, when], check=True)


def main(pid, whose, when):
    command = [PYDEFRAG, "snapshot", pid, "--json"]
    snapshot = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    if not any(owner["kind"] == whose and "live" in owner for owner in snapshot["owners"]):
        sys.exit("%s was not walked: %s" % (whose, snapshot["partial"] or snapshot["notes"]))
    row(when, ["%.1f" % (of(snapshot) / 2 ** 20) for _, _, of in COLUMNS[whose]])


if __name__ == "__main__":
    main(*sys.argv[1:])
