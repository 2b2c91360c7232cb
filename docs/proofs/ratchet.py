"""The first large chunk that is freed raises the size from which malloc maps chunks one by one."""

from look import heading, look

SMALL, LARGE = 50000, 1000000


def arrays(between):
    made = []
    for _ in range(100):
        made.append(bytearray(b"x") * LARGE)
        between.append(b"x" * SMALL)
    return made


heading("malloc")
small = []
large = arrays(small)
look("100 arrays of 1 MB, 50 kB between")
del large
look("the arrays freed")
large = arrays(small)
look("100 more, 50 kB between")
del large
look("the arrays freed")
