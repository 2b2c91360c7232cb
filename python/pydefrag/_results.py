"""What the calls return. Sizes are bytes, times are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

class Refused(RuntimeError):
    """What was asked cannot be done in this process. The message is a sentence that says why; nothing was changed."""


@dataclass(frozen=True)
class Trimmed:
    """What ``trim`` did."""

    rss_before: int
    """Resident bytes before: Rss of ``/proc/self/smaps_rollup``."""
    rss_after: int
    """Resident bytes after. Other threads may have used memory meanwhile."""
    malloc: str | None
    """Whose malloc was trimmed: ``glibc``, ``jemalloc``, ``mimalloc`` or ``tcmalloc``. None where ``skipped`` says why."""
    trim_seconds: float
    """How long its trim took, without the GIL."""
    collected: int | None
    """Objects that Python's garbage collector found, where it was asked to collect."""
    collect_seconds: float | None
    """How long that took, with the GIL held throughout."""
    seconds: float
    """From start to end."""
    cpu_seconds: float
    """Processor time of the thread that healed."""
    faults: int
    """Minor page faults of the whole process meanwhile."""
    skipped: tuple[str, ...]
    """What was left out: a sentence each, with the reason."""

    @property
    def returned(self) -> int:
        """Bytes by which RSS fell; 0 where it rose."""
        return max(self.rss_before - self.rss_after, 0)


@dataclass(frozen=True)
class Purged(Trimmed):
    """What ``purge`` did: a trim, and pymalloc's part."""

    pools_parked: int
    """Free pools that were taken off pymalloc's books until they are wanted again."""
    pools_trimmed: int
    """Pools in use of which free OS pages were given back."""
    bytes_dropped: int
    """Bytes of pymalloc's that were given back to the kernel."""
    pools_unparked: int
    """Pools put back since pydefrag was loaded, because they were wanted."""
    slices: int
    """How often the GIL was taken."""
    longest_slice: float
    """Longest time that it was held, in seconds."""
    held_seconds: float
    """Time that it was held in all."""
    arenas: int
    """pymalloc arenas that were looked at."""
    arenas_shared: int
    """Of these left alone, for a process of the same fork still shares their pages."""
    arenas_swapped: int
    """Of these left alone, for a page of theirs is swapped out."""
    invalid: int
    """Arenas and pools left alone because they are not what CPython leaves."""
    rings_unsorted: int
    """Size classes with too many pools in use to sort them."""


@dataclass(frozen=True)
class Heap:
    """The account of one allocator's resident bytes. The terms sum to its owner's ``resident``."""

    live: int
    """Handed out and not freed, and resident."""
    rounding: int | None
    """Bytes inside live blocks that nobody asked for; None while not known, and then part of ``live``."""
    metadata: int
    """The allocator's own headers and tables."""
    virgin: int
    """Never handed out yet."""
    free_spans: int
    """Free, and could go back as they are: pymalloc's free pools."""
    holes: int
    """Free OS pages beside what is live."""
    pinned_free: int
    """Free bytes on OS pages with a live byte."""
    top: int
    """malloc's tops."""
    cached: int
    """malloc's caches of single threads."""
    unread: int
    """What could not be read."""
    live_not_resident: int
    """Live, yet not resident. Not part of the sum."""


@dataclass(frozen=True)
class Owner:
    """One owner of resident bytes."""

    name: str
    """As in ``pymalloc``, ``malloc main arena``, ``interpreter``."""
    kind: str
    """Its kind, one of those of ``docs/json.md``."""
    resident: int
    """Resident bytes."""
    pss: int
    """The same, with shared pages divided by the processes that share them."""
    swapped: int
    """Bytes that are swapped out."""
    heap: Heap | None
    """Where the bytes are, for allocators that are walked."""


@dataclass(frozen=True)
class Ladder:
    """Bytes that would come back, cumulative; None where not known."""

    trim: int | None
    """By ``trim``."""
    purge: int | None
    """By ``purge``."""
    compact: int | None
    """By moving survivors of sparse pools."""
    ideal: int | None
    """By packing what is live perfectly: a bound."""


@dataclass(frozen=True)
class Account:
    """Where every resident byte of this process is."""

    rss: int
    """Resident bytes: the sum of all owners and ``unattributed``."""
    pss: int
    """The same, with shared pages divided by the processes that share them."""
    swap: int
    """Bytes that are swapped out."""
    owners: tuple[Owner, ...]
    """The largest first."""
    unattributed: int
    """Resident bytes without an owner."""
    fragmentation: float | None
    """Percent of the walked heaps' resident bytes that are not live."""
    ladder: Ladder
    """What would come back."""
    verdict: str | None
    """``healthy``, ``fragmented``, ``over_allocated``, ``native``; see ``docs/verdicts.md``."""
    sentence: str | None
    """The verdict in a sentence."""
    data: dict[str, Any] = field(repr=False, compare=False, hash=False)
    """All of it, as ``pydefrag snapshot --json`` writes it (``docs/json.md``)."""


@dataclass(frozen=True)
class Status:
    """What pydefrag has done in this process since it was loaded."""

    heals: int
    """Trims and purges that were carried out, from inside and outside."""
    pools_unparked: int
    """Pools that were put back because they were wanted."""
