"""malloc_trim drops whole OS pages inside malloc's free chunks, and nothing else."""

import ctypes
import subprocess
import sys

from look import heading, look

MIB = 1 << 20
CASES = {  # bytes of an object, and which of them are kept: 1 in so many
    "1 in 100 of 2,000 B kept": (2000, 100),
    "1 in 3 of 2,000 B kept": (2000, 3),
    "1 in 3 of 700 B kept": (700, 3),
    "1 in 100 of 200 B kept (pymalloc)": (200, 100),
}

if len(sys.argv) == 1:
    heading("malloc")
    for case in CASES:
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, case], check=True)
else:
    heading("malloc", stated=False)
    size, step = CASES[sys.argv[1]]
    objects = [b"x" * (size - 33) for _ in range(100 * MIB // size)]
    objects = objects[::step]
    look(sys.argv[1])
    ctypes.CDLL(None).malloc_trim(0)
    look("  after malloc_trim(0)")
