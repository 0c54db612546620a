"""One log event as one line of JSON: the same from the daemon and from the launcher."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trainerd.v1.service_manager import journal_prefix

FIRST = ("timestamp", "level", "event", "run", "host", "incarnation", "step")
"""What a line begins with, as far as it is known."""


def json_line(event: Mapping[str, Any], *, host: str, to_journal: bool) -> str:
    """The event as JSON, from `host` unless it names another; with its priority for the journal."""
    known = {"host": host, **event}
    ordered = {key: known.pop(key) for key in FIRST if key in known} | known
    prefix = journal_prefix(event.get("level", "info")) if to_journal else ""
    return prefix + json.dumps(ordered, default=repr)
