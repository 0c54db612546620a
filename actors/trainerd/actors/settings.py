"""What an `Engine` is made of: small frozen settings, refused where they are impossible."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainerd.actors.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What is measured beside training: the mean over `data` of `measure(state, batch)`.

    `measure` returns named numbers, which appear as `val_<name>`. `data` is gone through anew each
    time. `every_steps` 0: where an epoch ends; the last state is measured in any case.
    """

    measure: Callable[[Any, Any], Mapping[str, Any]]
    data: Iterable[Any]
    every_steps: int = 0

    def __post_init__(self) -> None:
        if not callable(self.measure):
            raise EngineError(
                f"validation.measure must be a function, got {type(self.measure).__name__}"
            )
        if isinstance(self.data, (str, bytes, Mapping)) or not isinstance(self.data, Iterable):
            raise EngineError(
                f"validation.data must be an iterable of batches, got {type(self.data).__name__}"
            )
        if iter(self.data) is self.data:
            raise EngineError(
                f"validation.data must be something to iterate over again and again, got a "
                f"{type(self.data).__name__}",
                suggestion="pass a list or another collection",
            )
        if self.every_steps != 0:
            at_least_one("validation.every_steps", self.every_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBudget:
    """How much `Engine.fit` deals with alone before it raises.

    Within `window_s` seconds at most `masks` microbatches' faults are masked and `skips` batches of
    each kind of error skipped; the `consecutive`-th step in a row that is not finite is one too
    many.
    """

    masks: int = 8
    skips: int = 10
    consecutive: int = 3
    window_s: float = 600.0

    def __post_init__(self) -> None:
        for name in ("masks", "skips", "consecutive"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise EngineError(f"budget.{name} must be an integer ≥ 0, got {value!r}")
        if not 0 < self.window_s < math.inf:
            raise EngineError(f"budget.window_s must be > 0 and finite, got {self.window_s}")


def at_least_one(name: str, value: Any) -> None:
    """Raise `EngineError` unless `value` is an integer ≥ 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise EngineError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise EngineError(f"{name} must be ≥ 1, got {value}")
