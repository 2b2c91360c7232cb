"""What the workloads share: rounds with rising and falling memory, and one hash that must never change."""

import hashlib
import time

SECONDS = 20


def repeat(make, check_of):
    """Makes many results a round, keeps some over the next rounds, and compares what each says of itself.

    `make(n)` gives the n-th object, the same for the same n; `check_of(object)` gives bytes that tell it whole.
    Survivors of earlier rounds are told again, after whatever happened to the memory around them.
    """
    wanted = {}
    kept = []
    until = time.monotonic() + SECONDS
    rounds = 0
    while time.monotonic() < until or rounds < 3:
        fresh = [(n, make(n)) for n in range(100)]
        for n, one in fresh:
            told = hashlib.sha256(check_of(one)).digest()
            if wanted.setdefault(n, told) != told:
                raise SystemExit(f"round {rounds}: {n} has changed")
        # One in seven outlives the round and pins what it lies in; the others leave holes.
        kept.extend(pair for pair in fresh if (pair[0] + rounds) % 7 == 0)
        del fresh
        for n, one in kept:
            if hashlib.sha256(check_of(one)).digest() != wanted[n]:
                raise SystemExit(f"round {rounds}: a survivor of {n} has changed")
        if len(kept) > 200:
            kept = kept[::3]
        rounds += 1
    print(f"{rounds} rounds, {len(kept)} survivors, all alike")
