"""Objects that gc.freeze() took from the collector, and others made after it."""

import gc

import serve


class Early:
    __slots__ = ("a",)


class Late:
    __slots__ = ("a",)


early = [Early() for _ in range(5000)]
gc.collect()
gc.freeze()
late = [Late() for _ in range(3000)]

serve.serve()
