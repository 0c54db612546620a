"""The training library's front door. Names are loaded when they are first used: the launcher
lives in this package and must not import JAX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainerd.actors.check import check_program as check_program
    from trainerd.actors.errors import TrainingError as TrainingError
    from trainerd.actors.loop import run_loop as run_loop
    from trainerd.actors.plan import Plan as Plan
    from trainerd.actors.program import Program as Program
    from trainerd.actors.program import load_entry as load_entry

_HOMES = {
    "Plan": "plan",
    "Program": "program",
    "TrainingError": "errors",
    "check_program": "check",
    "load_entry": "program",
    "run_loop": "loop",
}

__all__ = [
    "Plan",
    "Program",
    "TrainingError",
    "check_program",
    "load_entry",
    "run_loop",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
