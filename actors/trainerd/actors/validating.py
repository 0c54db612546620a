"""Validation of a step function's state: means over a data set of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from trainerd.actors.errors import DataError, EngineError
from trainerd.actors.settings import Validation
from trainerd.actors.state import PyTree
from trainerd.actors.work import Evaluation


def evaluation(validation: Validation | None) -> Evaluation | None:
    """Make what the loop runs of what a user has set."""
    if validation is None:
        return None
    wanted = validation

    def measure(state: PyTree) -> Mapping[str, float]:
        came = [wanted.measure(state, batch) for batch in wanted.data]
        if not came:
            raise DataError("validation.data has no batches", suggestion="pass at least one")
        # All are dispatched before the first is waited for.
        return _means(jax.device_get(came))

    return Evaluation(
        measure=measure,
        every_steps=wanted.every_steps,
        each_epoch=wanted.every_steps == 0,
    )


def _means(batches: list[Any]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for metrics in batches:
        if not isinstance(metrics, Mapping):
            raise EngineError(
                f"validation.measure must return a dict of numbers, got {type(metrics).__name__}",
                suggestion='return {"loss": loss}',
            )
        for name, value in metrics.items():
            sums[f"val_{name}"] = sums.get(f"val_{name}", 0.0) + float(value)
    return {name: total / len(batches) for name, total in sums.items()}
