"""Where a run's modules are looked for: before everything else, and entered once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_entered: list[str] = []


def search_first(path: Sequence[str]) -> None:
    """Put `path` before `sys.path`; a process that was forked after that has it there already."""
    if _entered != list(path):
        sys.path[:0] = path
        _entered[:] = path
