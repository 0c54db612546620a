"""Time as an argument: the daemon's shell owns a clock, tests move one by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds for decisions, wall seconds (since the epoch) for people."""

    def now(self) -> float:
        """Monotonic seconds; continues over restarts of the daemon once rebased."""

    def wall(self) -> float:
        """Seconds since the epoch."""


class SystemClock:
    """The machine's clocks. `rebase` lets monotonic time continue where a journal ended."""

    def __init__(self) -> None:
        self._offset = -time.monotonic()

    def now(self) -> float:
        """Monotonic seconds since the first daemon of this journal started."""
        return time.monotonic() + self._offset

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def rebase(self, *, last_now: float, last_wall: float) -> None:
        """Continue after the journal's last record; a wall clock set back counts as no time."""
        elapsed = max(0.0, self.wall() - last_wall)
        self._offset = last_now + elapsed - time.monotonic()
