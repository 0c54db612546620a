"""Which value of a watched metric is the best."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

Mode: TypeAlias = Literal["min", "max"]
Unit: TypeAlias = Literal["epoch", "step"]


def worst(mode: Mode) -> float:
    """Return the value that every finite one is better than: +inf for `min`, -inf for `max`."""
    return math.inf if mode == "min" else -math.inf


def better(value: float, best: float, mode: Mode, min_delta: float = 0.0) -> bool:
    """Whether `value` beats `best` by more than `min_delta`. One that is not finite never does:
    a loss of -inf is a fault, not a record."""
    if not math.isfinite(value):
        return False
    return value < best - min_delta if mode == "min" else value > best + min_delta


def checked_mode(mode: object) -> None:
    """Raise ValueError for a mode that is not one."""
    if mode not in get_args(Mode):
        raise ValueError(f'mode must be "min" or "max", got {mode!r}')


def checked_unit(unit: object) -> None:
    """Raise ValueError for a unit that is not one."""
    if unit not in get_args(Unit):
        raise ValueError(f'unit must be "epoch" or "step", got {unit!r}')


def checked_count(name: str, value: object) -> None:
    """Raise ValueError for anything but an integer ≥ 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer ≥ 1, got {value!r}")
