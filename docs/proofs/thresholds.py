"""What MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ do to the same two programs."""

import os
import subprocess
import sys

from look import heading, look

BUFFER, ARRAY, SMALL = 2000, 200000, 5000
SETTINGS = ("", "MALLOC_TRIM_THRESHOLD_=65536", "MALLOC_MMAP_THRESHOLD_=131072")


def buffers():
    """50,000 of 2,000 bytes, of which the last stays."""
    made = [b"x" * BUFFER for _ in range(50000)]
    return made[-1]


def arrays():
    """500 arrays of 200,000 bytes with 5,000 between that stay; a larger one was freed before."""
    bytearray(b"x") * (10 * ARRAY)
    made, kept = [], []
    for _ in range(500):
        made.append(bytearray(b"x") * ARRAY)
        kept.append(b"x" * SMALL)
    return kept


if len(sys.argv) == 1:
    heading("malloc")
    for what, name in (("buffers", "50,000 buffers freed, the last kept"), ("arrays", "500 arrays freed, 5,000 B between")):
        for setting in SETTINGS:
            sys.stdout.flush()
            environment = dict(os.environ, **dict([setting.split("=")] if setting else []))
            command = [sys.executable, __file__, what, "  " + setting if setting else name]
            subprocess.run(command, check=True, env=environment)
else:
    heading("malloc", stated=False)
    kept = buffers() if sys.argv[1] == "buffers" else arrays()
    look(sys.argv[2])
