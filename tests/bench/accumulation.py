"""Accumulating over slots: the library's scan against what else one could write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench import figures as f
from bench.loops import LargeBatch, MultiSteps, PythonLoop, SameStep, compiled
from bench.models import Model

SLOTS = (4, 16)
LARGE = "one large batch"


def figures(model: Model, *, pairs: int, steps: int) -> list[f.Figure]:
    """Time an update, over 4 and over 16 slots of one batch of 16 records."""
    model = replace(model, global_batch=16)
    made = []
    for slots in SLOTS:
        runs: dict[str, Callable[[int], float]] = {
            "scan": SameStep(model, slots=slots, fixed=True),
            "Python loop": PythonLoop(model, slots=slots),
            "optax.MultiSteps": MultiSteps(model, slots=slots),
            LARGE: LargeBatch(model),
        }
        taken = f.interleave(runs, pairs=pairs, steps=steps)
        ours = taken.pop("scan")
        for name, others in taken.items():
            made.append(
                f.figure(
                    f"time an update, {slots} slots, {model.name}",
                    name,
                    f.ratios(ours, others),
                    unit="ratio",
                    bound=_bound(model.name, name, slots),
                )
            )
    return made


def temporaries(model: Model) -> list[f.Figure]:
    """Memory for temporaries over 16 slots, against 4 slots of the same size."""
    few, many = (
        compiled(model, slots=slots, global_batch=slots)[0].function.memory_analysis()
        for slots in SLOTS
    )
    ratio = many.temp_size_in_bytes / few.temp_size_in_bytes
    return [
        f.exact(
            f"temporaries, 16 slots, {model.name}",
            "4 slots of that size",
            ratio,
            unit="ratio",
            bound=f.at_most(1.01),
        )
    ]


def _bound(model: str, other: str, slots: int) -> f.Bound | None:
    if model == "transformer":
        return f.at_most(1.0)
    return f.at_most(1.5) if other == LARGE and slots == SLOTS[0] else None
