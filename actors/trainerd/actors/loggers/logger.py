"""What a run's numbers are written by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

Field: TypeAlias = str | float | int


class Logger(Protocol):
    """Writes metrics and events somewhere. Called from the loop's thread, with values on the host.

    A method may raise: `Loggers` decides what becomes of that. None may block for long, and none
    may keep the mapping it was given.
    """

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of `step`. They may hold NaN and infinities."""

    def event(self, step: int, name: str, fields: Mapping[str, Field]) -> None:
        """Write that something happened at `step`, such as `training/step_error`."""

    def close(self) -> None:
        """Finish and let go of files. Nothing is written afterwards; closing again does nothing."""
