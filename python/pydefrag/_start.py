"""What an import starts: the agent's thread, and what the environment asks for.

Nothing here raises or stops a program from starting: what cannot be had is a line on stderr.
"""

from __future__ import annotations

import os
import sys

from . import _agent

_ON = ("1", "true", "yes", "on")
_OFF = ("", "0", "false", "no", "off")


def listen() -> None:
    """Starts the thread that ``pydefrag fix PID`` talks to."""
    _try("nothing from outside can be answered", lambda: _ask('{"do": "start"}'))


def from_environment() -> None:
    """PYDEFRAG_AUTO and PYDEFRAG_SNAPSHOT_DIR."""
    value = os.environ.get("PYDEFRAG_AUTO", "").strip().lower()
    if value in _ON or value == "log":
        log = "true" if value == "log" else "false"
        _try("PYDEFRAG_AUTO", lambda: _ask('{"do": "auto", "log": %s}' % log))
    elif value not in _OFF:
        _say(f"PYDEFRAG_AUTO: {value!r} is neither 1, log nor 0")
    folder = os.environ.get("PYDEFRAG_SNAPSHOT_DIR", "")
    if folder:
        _try("PYDEFRAG_SNAPSHOT_DIR", lambda: _on_signal(folder))


def _on_signal(folder: str) -> None:
    name = os.environ.get("PYDEFRAG_SNAPSHOT_SIGNAL", "").strip() or "SIGUSR2"
    import json

    order = {"do": "on_signal", "signal": _number(name), "folder": os.path.abspath(folder)}
    _ask(json.dumps(order))


def _number(name: str) -> int:
    if name.isdigit():
        return int(name)
    import signal

    name = name.upper()
    try:
        return int(signal.Signals[name if name.startswith("SIG") else "SIG" + name])
    except KeyError:
        raise ValueError(f"{name} (PYDEFRAG_SNAPSHOT_SIGNAL) is no signal") from None


def _ask(request: str) -> None:
    answer = _agent.call(request)
    if not answer.startswith('{"done":'):
        import json

        raise ValueError(json.loads(answer)["refused"])


def _try(what: str, work) -> None:
    try:
        work()
    except Exception as error:
        _say(f"{what}: {error}")


def _say(text: str) -> None:
    try:
        sys.stderr.write(f"pydefrag: {text}\n")
    except Exception:
        pass
