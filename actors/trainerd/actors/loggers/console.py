"""Metrics and events as plain lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TextIO, final

from trainerd.actors.loggers.logger import Field


@final
class ConsoleLogger:
    """Writes one line a call: `step 12  loss=0.1234  learning_rate=0.001`.

    To `stream`, which stays the caller's; None: to standard error as it is at that moment. Six
    significant digits; a text with spaces or quotes is quoted as JSON does.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._closed = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics in their order."""
        self._write([f"step {step}", *_pairs(metrics)])

    def event(self, step: int, name: str, fields: Mapping[str, Field]) -> None:
        """Write the event's name and its fields."""
        self._write([f"step {step}", name, *_pairs(fields)])

    def close(self) -> None:
        """Write no more. The stream stays open."""
        self._closed = True

    def _write(self, words: list[str]) -> None:
        if self._closed:
            raise ValueError("this console logger is closed")
        stream = sys.stderr if self._stream is None else self._stream
        stream.write("  ".join(words) + "\n")
        stream.flush()


def _pairs(values: Mapping[str, Field]) -> list[str]:
    return [f"{name}={_shown(value)}" for name, value in values.items()]


def _shown(value: Field) -> str:
    if type(value) is float:
        return f"{value:.6g}"
    match value:
        case float():
            return f"{value:.6g}"
        case str() if value and value.isprintable() and not set(value) & set(' "='):
            return value
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)
