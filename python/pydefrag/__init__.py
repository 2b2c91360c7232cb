"""Memory given back in place, by the process that holds it.

    import pydefrag

    pydefrag.purge()            # once, after a peak
    pydefrag.auto()             # or: whenever memory in use has fallen, and no more than that
    pydefrag.mark("loaded")     # a phase begins, for `pydefrag record`

Importing starts a thread of pydefrag's own (not a ``threading.Thread``), which answers ``pydefrag fix PID`` and
carries out ``auto``. It holds no Python object, and takes the GIL only while something is healed.

Sizes are bytes and times are seconds, everywhere. What cannot be done raises ``Refused`` with a sentence that
says why, and then nothing was changed.

Two switches in the environment work without a change to the program, for pydefrag that is installed is imported
at the start of the interpreter where one of them is set:

``PYDEFRAG_AUTO``
    ``1`` turns ``auto`` on, ``log`` turns it on with a line on stderr for each heal.
``PYDEFRAG_SNAPSHOT_DIR``
    a folder, into which a signal has the process write a snapshot of itself. ``PYDEFRAG_SNAPSHOT_SIGNAL`` names
    the signal: SIGUSR2 if it does not.
"""

from __future__ import annotations

import sys as _sys

if _sys.implementation.name != "cpython":
    raise ImportError("pydefrag is for CPython, and this is %s" % _sys.implementation.name)
if _sys.version_info < (3, 10):
    raise ImportError("pydefrag needs Python 3.10 or later, and this is %d.%d" % _sys.version_info[:2])
if "t" in _sys.abiflags:
    raise ImportError(
        "pydefrag is for builds of Python with a GIL: one without has no pymalloc, whose memory it gives back"
    )

# As type checkers see it; `typing` itself is not needed.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._api import account, auto, mark, purge, snapshot, status, trim
    from ._results import Account, Heap, Ladder, Owner, Purged, Refused, Status, Trimmed

__version__ = "0.1.0"

_CALLS = ("account", "auto", "mark", "purge", "snapshot", "status", "trim")
_RESULTS = ("Account", "Heap", "Ladder", "Owner", "Purged", "Refused", "Status", "Trimmed")

__all__ = [*_RESULTS, *_CALLS]


def __getattr__(name):
    # What the calls need (dataclasses, json) takes more memory than the agent: a program that only wants to be healed
    # from outside, or by `auto` in its environment, is spared it.
    if name not in __all__:
        raise AttributeError("module 'pydefrag' has no attribute %r" % name)
    from . import _api, _results

    for known in __all__:
        globals()[known] = getattr(_api if known in _CALLS else _results, known)
    return globals()[name]


def __dir__():
    return [*__all__, "__version__"]


from . import _start as _start

_start.listen()
_start.from_environment()
