"""Step metrics as text: a table for people, CSV for their tools."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from trainerd.clients.wording import clock, duration, figure, one_line
from trainerd.v1 import run_pb2

_COLUMNS = ("step", "loss", "grad norm", "took", "examples", "at")
_WIDTHS = (10, 11, 11, 8, 9, 8)
_CSV = (
    "step",
    "batch",
    "time",
    "incarnation",
    "duration_s",
    "data_wait_s",
    "examples",
    "loss",
    "gradient_norm",
)


def heading(names: Sequence[str]) -> str:
    """The table's first line; `names` are those of the run's metrics."""
    return _row(_COLUMNS, names, [one_line(name) for name in names])


def line(step: run_pb2.StepMetrics, names: Sequence[str]) -> str:
    """One step; a metric that it does not have is "-"."""
    cells = (
        f"{step.step:,}",
        figure(step.loss),
        figure(step.gradient_norm),
        duration(step.duration_s),
        f"{step.examples:,}",
        clock(step.time),
    )
    values = [figure(step.metrics[name]) if name in step.metrics else "-" for name in names]
    return _row(cells, names, values)


def csv_heading(names: Sequence[str]) -> list[str]:
    """The names of the columns of `csv_row`."""
    return [*_CSV, *names]


def csv_row(step: run_pb2.StepMetrics, names: Sequence[str]) -> list[str]:
    """One step, every digit of it; a metric that it does not have is empty."""
    time = step.time.ToDatetime(tzinfo=datetime.UTC)
    return [
        str(step.step),
        str(step.batch),
        time.isoformat(timespec="milliseconds"),
        str(step.incarnation),
        repr(step.duration_s),
        repr(step.data_wait_s),
        str(step.examples),
        repr(step.loss),
        repr(step.gradient_norm),
        *(repr(step.metrics[name]) if name in step.metrics else "" for name in names),
    ]


def _row(cells: Sequence[str], names: Sequence[str], values: Sequence[str]) -> str:
    parts = [f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)]
    parts += [f"{value:>{max(len(name), 9)}}" for name, value in zip(names, values, strict=True)]
    return "  ".join(parts).rstrip()
