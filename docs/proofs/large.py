"""Objects above 512 bytes are malloc's: what is freed below something live stays."""

from look import heading, look

heading()
look("at start")
large, small = [], []
for _ in range(1000):
    large.append(b"x" * 100000)
    small.append(b"x" * 1000)
look("1,000 of 100,000 B and of 1,000 B")
del large
look("the large ones freed")
del small
look("the small ones freed")
large = [b"x" * 1000000 for _ in range(100)]
look("100 of 1,000,000 B")
del large
look("freed")
