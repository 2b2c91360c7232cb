"""The functions of the package. Each raises ``Refused`` with the reason where it cannot do what it is asked."""

from __future__ import annotations

import os
from typing import Any

from ._call import call
from ._results import Account, Heap, Ladder, Owner, Purged, Refused, Status, Trimmed


def trim(*, collect: bool = False) -> Trimmed:
    """Has malloc give back the OS pages that it holds free: ``malloc_trim``, or what jemalloc, mimalloc or tcmalloc
    have for it where they serve the process. The GIL is released meanwhile.

    ``collect`` runs Python's garbage collector first, which holds the GIL until it is done.

    Raises ``Refused`` where malloc has no such call, where its heap is shared with another process of the same fork
    (glibc before 2.43 would write to it), and where another heal is under way.
    """
    before = _rss()
    done = call("trim", collect=bool(collect))
    return Trimmed(**_common(done, before))


def mark(text: str) -> bool:
    """Marks a moment in the recording of this process, where ``pydefrag record`` makes one: the report shows it beside
    what was live then. ``text`` is kept up to 1024 bytes. Returns whether the process is recorded; where it is not,
    nothing happens.
    """
    return bool(call("mark", text=str(text)))


def purge(*, collect: bool = False, slice: float = 0.005) -> Purged:
    """Trims, then gives back what pymalloc holds free: pools that are free, and free OS pages of those in use.
    Nothing moves, and pools that are wanted again are put back.

    ``slice`` is the longest time in seconds for which the GIL is held at once, from 0.0001 to 1; in between the
    program runs. ``collect`` runs Python's garbage collector first, which holds the GIL until it is done.

    Where one of the two parts cannot be done, the other is, and ``skipped`` says why: with ``PYTHONMALLOC=malloc`` there
    is no pymalloc, and only malloc is trimmed. Raises ``Refused`` where neither can, for a slice that is too short or
    too long, and where another heal is under way.
    """
    try:
        slice_us = round(float(slice) * 1e6)
    except (OverflowError, ValueError):
        slice_us = 0
    if slice_us < 0 or slice_us >= 1 << 63:
        slice_us = 0
    before = _rss()
    done = call("purge", collect=bool(collect), slice_us=slice_us)
    return Purged(
        **_common(done, before),
        pools_parked=done["pools_parked"],
        pools_trimmed=done["pools_trimmed"],
        bytes_dropped=done["bytes_dropped"],
        pools_unparked=done["pools_unparked"],
        slices=done["slices"],
        longest_slice=done["longest_slice_us"] / 1e6,
        held_seconds=done["gil_ms"] / 1e3,
        arenas=done["arenas"],
        arenas_shared=done["arenas_shared"],
        arenas_swapped=done["arenas_swapped"],
        invalid=done["invalid"],
        rings_unsorted=done["rings_unsorted"],
    )


def account(*, objects: bool = False) -> Account:
    """Where every resident byte of this process is. The GIL is released meanwhile; what changes while it is looked
    at is read again, and counted in ``data["torn"]``.

    ``objects`` also looks at what every live block is and who holds it (``data["pins"]`` and others): slower, by about a
    second per GiB.

    Raises ``Refused`` where the process's memory cannot be read, or its Python is not known.
    """
    data = call("account", objects=bool(objects))
    memory, verdict = data["memory"], data.get("verdict") or {}
    return Account(
        rss=memory["rss"],
        pss=memory["pss"],
        swap=memory["swap"],
        owners=tuple(map(_owner, data["owners"])),
        unattributed=data["unattributed"],
        fragmentation=(data.get("fragmentation") or {}).get("percent"),
        ladder=Ladder(**{rung: data["ladder"][rung] for rung in ("trim", "purge", "compact", "ideal")}),
        verdict=verdict.get("kind"),
        sentence=verdict.get("sentence"),
        data=data,
    )


def auto(on: bool = True, *, every: float = 1.0, log: bool = False) -> None:
    """Leaves a policy on that purges by itself: when memory in use has fallen and is at rest, not in a peak; less often
    where what it gave back was wanted again at once; for at most one percent of a processor's time. ``auto(False)``
    turns it off. It goes on in a forked child.

    ``every`` is how often it looks, in seconds, from 0.01 to 3600. ``log`` writes a line to stderr for each heal.

    Raises ``Refused`` for another ``every``, and where no thread can be started.
    """
    if not on:
        call("auto", on=False)
        return
    try:
        every_ms = max(round(float(every) * 1e3), 0)
    except (OverflowError, ValueError):
        every_ms = 0
    call("auto", every_ms=min(every_ms, 1 << 62), log=bool(log))


def snapshot(path: str | os.PathLike[str], *, objects: bool = True) -> int:
    """Writes a ``.pdsnap`` of this process, which ``pydefrag report`` and ``pydefrag diff`` read, and returns its size
    in bytes. It appears whole under its name, or not at all. ``objects`` as in ``account``.

    Raises ``Refused`` where the file cannot be written, or the process's memory not be read.
    """
    path = os.path.abspath(os.fspath(path))
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Refused(f"{path!r} is no name of a file in UTF-8") from None
    return int(call("snapshot", path=path, objects=bool(objects))["bytes"])


def status() -> Status:
    """What pydefrag has done in this process so far."""
    done = call("status")
    return Status(heals=done["heals"], pools_unparked=done["pools_unparked"])


def _rss() -> int:
    try:
        with open("/proc/self/smaps_rollup", "rb") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith(b"Rss:"))
    except (OSError, StopIteration) as error:
        raise Refused(f"/proc/self/smaps_rollup cannot be read ({error})") from None


def _common(done: dict[str, Any], before: int) -> dict[str, Any]:
    trimmed = done.get("trim") or {}
    collect_ms = done["collect_ms"]
    return {
        "rss_before": before,
        "rss_after": _rss(),
        "malloc": trimmed.get("malloc"),
        "trim_seconds": trimmed.get("ms", 0.0) / 1e3,
        "collected": done["collected"],
        "collect_seconds": None if collect_ms is None else collect_ms / 1e3,
        "seconds": done["wall_ms"] / 1e3,
        "cpu_seconds": done["cpu_ms"] / 1e3,
        "faults": done["minor_faults"],
        "skipped": tuple(done["skipped"]),
    }


def _owner(owner: dict[str, Any]) -> Owner:
    return Owner(
        name=owner["name"],
        kind=owner["kind"],
        resident=owner["resident"],
        pss=owner["pss"],
        swapped=owner["swapped"],
        heap=Heap(**{term: owner[term] for term in Heap.__dataclass_fields__}) if "live" in owner else None,
    )
