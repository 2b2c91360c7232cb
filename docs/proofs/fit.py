"""Freed blocks of 64 bytes do not serve requests of 80 bytes; they do serve those of 64."""

from look import heading, look

B64, B80 = 64 - 33, 80 - 33  # a bytes object takes 33 bytes beside its own

heading()
first = [bytes(B64) for _ in range(600000)]
look("600,000 blocks of 64 B")
del first[::2]
look("every second one freed")
second = [bytes(B80) for _ in range(200000)]
look("200,000 blocks of 80 B made")
third = [bytes(B64) for _ in range(200000)]
look("200,000 blocks of 64 B made")
