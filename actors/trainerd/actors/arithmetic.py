"""How gradients are computed: what is fixed when a step is compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from trainerd.actors.errors import PlanError

PRECISIONS: Final = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Changing any of these compiles another step.

    `precision`: the type the loss is computed in. With "bfloat16" parameters and floating leaves
    of a batch are cast on their way into the loss; the parameters themselves, gradients summed
    over slots, the loss and all metrics stay float32. `clip_norm`: longest gradient that reaches
    the optimizer, by global norm; None: any. `remat`: recompute everything but the results of
    matrix multiplications in the backward pass, so that a slot needs less memory. `ordered`: add
    slot after slot in one order, whatever devices they were computed on; see `slot_sums`.
    """

    precision: str = "float32"
    clip_norm: float | None = None
    remat: bool = False
    ordered: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.precision not in PRECISIONS:
            problems.append(
                f'precision must be "float32" or "bfloat16", got {_quoted(self.precision)}'
            )
        clip = self.clip_norm
        if clip is not None and not _positive(clip):
            problems.append(f"clip_norm must be a finite number > 0, got {clip!r}")
        for name in ("remat", "ordered"):
            if not isinstance(getattr(self, name), bool):
                problems.append(f"{name} must be true or false, got {getattr(self, name)!r}")
        if problems:
            raise PlanError("; ".join(problems))


def _positive(value: float) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value < math.inf


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
