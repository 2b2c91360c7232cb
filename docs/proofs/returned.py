"""What goes back to the kernel: whole pymalloc arenas only, so how much depends on where survivors lie."""

import subprocess
import sys

from look import heading, look

COUNT = 400000


def survivors(objects, how):
    if how == "none":
        return []
    if how == "the first 5%":
        return objects[: COUNT // 20]
    return objects[:: int(how.split()[-1])]


if len(sys.argv) == 1:
    heading()
    for how in ("all", "none", "the first 5%", "1 in 20", "1 in 200", "1 in 2000", "1 in 20000"):
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, how], check=True)
else:
    how = sys.argv[1]
    objects = [bytes(200) for _ in range(COUNT)]
    if how != "all":
        objects = survivors(objects, how)
    look(how + " kept")
