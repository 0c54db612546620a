"""The step metrics of one applied update as bytes: made by the loop's thread, read by any other."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from trainerd.actors.reports import StepRecord

MAX_METRICS = 256
"""Metrics of one update that are kept."""
MAX_NAME_BYTES = 200

_ROW, _BACK = 1, 2
# Kind, step, batch, time, duration, data wait, loss, gradient norm, examples, incarnation,
# how many metrics, bytes of their names.
_FIXED = struct.Struct("<BqqdddddqqHI")
_BACK_TO = struct.Struct("<Bq")


class StepRow(NamedTuple):
    """One applied update. `time`: seconds since 1970; the rest as in `StepRecord`."""

    step: int
    batch: int
    time: float
    duration_s: float
    data_wait_s: float
    loss: float
    gradient_norm: float
    examples: int
    incarnation: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BackTo:
    """The run stands at `step`: rows of later steps are of a past that no longer counts."""

    step: int


class RowWriter:
    """Makes bytes of records. One thread; what names a metric has is encoded once."""

    def __init__(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self._names: dict[tuple[str, ...], tuple[bytes, struct.Struct]] = {}

    def row(self, record: StepRecord, time: float) -> bytes:
        """The bytes of an applied update."""
        metrics = record.metrics
        if len(metrics) > MAX_METRICS:
            metrics = dict(list(metrics.items())[:MAX_METRICS])
        names = tuple(metrics)
        known = self._names.get(names)
        if known is None:
            known = self._known(names)
        text, values = known
        return (
            _FIXED.pack(
                _ROW,
                record.step,
                record.batch,
                time,
                record.duration_s,
                record.data_wait_s,
                record.loss,
                record.gradient_norm,
                record.examples,
                self._incarnation,
                len(names),
                len(text),
            )
            + text
            + values.pack(*metrics.values())
        )

    def back_to(self, step: int) -> bytes:
        """The bytes of a way back."""
        return _BACK_TO.pack(_BACK, step)

    def _known(self, names: tuple[str, ...]) -> tuple[bytes, struct.Struct]:
        if len(self._names) >= MAX_METRICS:
            # A program that draws its names anew at each step must not fill the memory.
            self._names.clear()
        short = (name.encode()[:MAX_NAME_BYTES].decode(errors="ignore") for name in names)
        text = "\n".join(name.replace("\n", " ") for name in short).encode()
        self._names[names] = known = (text, struct.Struct(f"<{len(names)}d"))
        return known


def decoded(data: bytes) -> StepRow | BackTo:
    """What `RowWriter` made. Raise ValueError for anything else."""
    try:
        if data[0] == _BACK:
            return BackTo(_BACK_TO.unpack(data)[1])
        kind, *fields, count, length = _FIXED.unpack_from(data)
        text = data[_FIXED.size : _FIXED.size + length].decode()
        values = struct.unpack(f"<{count}d", data[_FIXED.size + length :])
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a row of step metrics: {error}") from error
    if kind != _ROW:
        raise ValueError(f"not a row of step metrics: kind {kind}")
    names = text.split("\n") if count else []
    return StepRow._make((*fields, dict(zip(names, values, strict=True))))
