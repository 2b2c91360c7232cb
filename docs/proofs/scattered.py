"""What free() gives back to the kernel: the top of malloc's heap only, so a few survivors keep all."""

import subprocess
import sys

from look import heading, look

COUNT, SIZE = 50000, 2000


def survivors(objects, how):
    if how == "all":
        return objects
    if how == "none":
        return []
    if how == "the first 5%":
        return objects[: COUNT // 20]
    if how == "the last one":
        return objects[-1:]
    return objects[:: int(how.split()[-1])]


if len(sys.argv) == 1:
    heading("malloc")
    for how in ("all", "none", "the first 5%", "1 in 2", "1 in 20", "1 in 2000", "the last one"):
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, how], check=True)
else:
    heading("malloc", stated=False)
    how = sys.argv[1]
    objects = [b"x" * SIZE for _ in range(COUNT)]
    objects = survivors(objects, how)
    look(how + " kept")
