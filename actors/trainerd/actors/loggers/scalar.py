"""One metric as one float."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainerd.actors.loggers.errors import MetricError


def as_float(name: str, value: Any) -> float:
    """Return `value` as a float: a Python or NumPy number, or any array of shape ().

    Waits for `value` itself where it is still being computed. Raises `MetricError`, naming the
    metric, for everything that is not one real number.
    """
    if type(value) is float:
        return value
    if value is None or isinstance(value, (str, bytes)):
        raise _refused(name, repr(value))
    try:
        shape = np.shape(value)
        if shape != () or np.iscomplexobj(value):
            raise _refused(name, _kind(value, shape))
        # Ten times faster than float() of a JAX array.
        return float(np.asarray(value))
    except (AttributeError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise _refused(name, f"{type(value).__name__} ({error})") from error


def _refused(name: str, came: str) -> MetricError:
    return MetricError(
        f'metric "{name}" must be one real number, got {came}',
        suggestion="report its mean, or another single number",
    )


def _kind(value: Any, shape: tuple[int, ...]) -> str:
    match value:
        case list() | tuple() | complex():
            return f"a {type(value).__name__} of shape {shape}"
        case _:
            # An array, of NumPy's or of another library that has its attributes.
            return f"{value.dtype}{list(shape)}"
