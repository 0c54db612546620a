"""Metrics and events as JSON, one object a line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import final

from trainerd.actors.loggers.appending import AppendedFile
from trainerd.actors.loggers.logger import Field


@final
class JsonLinesLogger:
    """Appends to `path` one JSON object a line.

    `{"time_s": …, "step": …, "metrics": {name: number}}` for metrics, and
    `{"time_s": …, "step": …, "event": name, "fields": {…}}` for events; `time_s` is Unix time.
    JSON has no NaN: a value that is not finite is the string "NaN", "Infinity" or "-Infinity",
    which `float()` reads. An existing file is continued: a step that is replayed after a restart
    stands there twice, and the later line counts. Every line is a whole object; see
    `AppendedFile`, also for `sync`. Raises OSError where `path` cannot be used.
    """

    def __init__(
        self, path: str | Path, *, sync: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._file = AppendedFile(Path(path), sync=sync)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line."""
        self._append(step, {"metrics": {name: _plain(x) for name, x in metrics.items()}})

    def event(self, step: int, name: str, fields: Mapping[str, Field]) -> None:
        """Append one line."""
        values = {key: _plain(x) for key, x in fields.items()}
        self._append(step, {"event": name, "fields": values})

    def close(self) -> None:
        """Sync and close the file."""
        self._file.close()

    def _append(self, step: int, what: Mapping[str, object]) -> None:
        line = {"time_s": round(self._clock(), 3), "step": step, **what}
        self._file.append(json.dumps(line, ensure_ascii=False, allow_nan=False))


def _plain(value: Field) -> Field:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
