"""The conversation with the agent: one function, JSON in and JSON out."""

from __future__ import annotations

import json
from typing import Any

from . import _agent
from ._results import Refused


def call(what: str, **asked: Any) -> Any:
    """Carries out a request of ``crates/agent/src/module.rs``; raises ``Refused`` with the agent's sentence."""
    # A path of bytes that are no UTF-8 has surrogates, which the agent cannot be told.
    answer = json.loads(_agent.call(json.dumps({"do": what, **asked})))
    if "refused" in answer:
        raise Refused(answer["refused"])
    return answer["done"]
