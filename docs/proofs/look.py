"""look("when"): prints what pydefrag sees of this process now, in one line; MiB.

The line is made by a process of its own (look.py PID WHEN), so that the one that is looked at changes as
little as possible: it waits meanwhile.
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PYDEFRAG = os.environ.get("PYDEFRAG", os.path.join(HERE, "../../target/release/pydefrag"))
ROW = "{:<34}" + "{:>8}" * 6
TERMS = ("resident", "live", "free_spans", "holes", "pinned_free")


def look(when):
    sys.stdout.flush()
    subprocess.run([sys.executable, __file__, str(os.getpid()), when], check=True)


def heading():
    print(ROW.format("", "RSS", "py-", "live", "free", "holes", "pinned"))
    print(ROW.format("MiB", "", "malloc", "", "pools", "", "free"))


def main(pid, when):
    command = [PYDEFRAG, "snapshot", pid, "--json"]
    snapshot = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    heaps = [owner for owner in snapshot["owners"] if owner["kind"] == "pymalloc"]
    if not heaps:
        sys.exit("pymalloc was not walked: " + str(snapshot["partial"]))
    sizes = [snapshot["memory"]["rss"]] + [sum(heap[term] for heap in heaps) for term in TERMS]
    print(ROW.format(when, *("%.1f" % (size / 2 ** 20) for size in sizes)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
