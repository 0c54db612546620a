"""Metrics and events as JSON, one object a line."""

from __future__ import annotations

import functools
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
        self._append(step, f'"metrics": {_object(metrics)}')

    def event(self, step: int, name: str, fields: Mapping[str, Field]) -> None:
        """Append one line."""
        self._append(step, f'"event": {_text(name)}, "fields": {_object(fields)}')

    def close(self) -> None:
        """Sync and close the file."""
        self._file.close()

    def _append(self, step: int, what: str) -> None:
        time_s = round(self._clock(), 3)
        self._file.append(f'{{"time_s": {time_s!r}, "step": {step:d}, {what}}}')


def _object(values: Mapping[str, Field]) -> str:
    # A tenth of what `json.dumps` of it all takes: nearly everything is a float under a name that
    # came before.
    return "{" + ", ".join([f"{_name(key)}: {_value(x)}" for key, x in values.items()]) + "}"


def _value(value: Field) -> str:
    if not isinstance(value, float):
        return json.dumps(value, ensure_ascii=False)
    if math.isfinite(value):
        # Not `repr`: NumPy's floats are floats, and say so.
        return float.__repr__(value)
    if math.isnan(value):
        return '"NaN"'
    return '"Infinity"' if value > 0 else '"-Infinity"'


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_name = functools.lru_cache(maxsize=1024)(_text)
