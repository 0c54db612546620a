"""The host boundary: device values become floats here, once, for whoever reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from trainerd.actors.loggers.errors import MetricError
from trainerd.actors.loggers.scalar import as_float


def host_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return `metrics` as floats: JAX and NumPy scalars and Python numbers, each converted once.

    Waits for the arrays it is given and for nothing else: handed the outputs of a step that has
    landed, it does not wait for the step in flight. Raises `MetricError` naming every metric that
    is not one real number.
    """
    converted, refused = split_metrics(metrics)
    if refused:
        raise MetricError("; ".join(error.message for error in refused.values()))
    return converted


def split_metrics(metrics: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, MetricError]]:
    """Return the metrics that are numbers, as floats, and the others with what is wrong."""
    if all(type(value) is float for value in metrics.values()):
        return dict(metrics), {}
    converted: dict[str, float] = {}
    refused: dict[str, MetricError] = {}
    if jax.default_backend() != "cpu":
        # The copies of all arrays are under way before the first one is waited for.
        for value in metrics.values():
            if _is_scalar_array(value) and not value.is_deleted():
                value.copy_to_host_async()
    for name, value in metrics.items():
        try:
            converted[name] = as_float(name, value)
        except MetricError as error:
            refused[name] = error
    return converted, refused


def _is_scalar_array(value: Any) -> bool:
    concrete = isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    return concrete and value.shape == ()
