"""Objects above 512 bytes are malloc's: what is free between two that live stays."""

from look import heading, look

SMALL, LARGE = 5000, 100000

heading("malloc")
look("at start")
large, small = [], []
for _ in range(1000):
    large.append(b"x" * LARGE)
    small.append(b"x" * SMALL)
look("1,000 of 100,000 B and of 5,000 B")
del large
look("the large ones freed")
del small
look("the small ones freed")
