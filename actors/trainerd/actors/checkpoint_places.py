"""Where the next save goes: to the run's directory, or to the fallback while that one fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

BACK_FIRST_S = 30.0
BACK_LONGEST_S = 600.0


class Places:
    """The directories of a store, the one to prefer first: one, or that and a fallback.

    After a failure of the first one saves go to the fallback. The first is tried again 30 s later,
    then 1 min, 2 min … at most 10 min later, and sooner where the fallback fails too. One that is
    shut, because a save there does not come to an end, is not tried. Not safe for threads: its
    owner guards it.
    """

    def __init__(self, first: Path, fallback: Path | None = None) -> None:
        if fallback == first:
            fallback = None
        self.all: Sequence[Path] = (first,) if fallback is None else (first, fallback)
        self._failures = 0
        self._back_s: float | None = None
        self._shut: set[Path] = set()

    @property
    def first(self) -> Path:
        """The run's own directory."""
        return self.all[0]

    def order(self, now: float) -> Sequence[Path]:
        """The directories to try one after the other for a save that begins at `now`."""
        waits = len(self.all) > 1 and self._back_s is not None and now < self._back_s
        # What is left out is due soon enough; to try it each time would block each save.
        wanted = self.all[1:] if waits else self.all
        return [place for place in wanted if place not in self._shut] or [self.all[-1]]

    def elsewhere(self, place: Path) -> bool:
        """Whether another directory is left to try once `place` has failed."""
        return any(other not in self._shut for other in self.all if other != place)

    def failed(self, place: Path, now: float) -> None:
        """A save to `place` failed at `now`."""
        if place != self.first:
            self._back_s = min(now, self._back_s or now)
            return
        self._failures += 1
        wait_s = BACK_FIRST_S * 2.0 ** min(self._failures - 1, 16)
        self._back_s = now + min(wait_s, BACK_LONGEST_S)

    def succeeded(self, place: Path) -> None:
        """A save to `place` is durable."""
        if place == self.first:
            self._failures, self._back_s = 0, None

    def shut(self, place: Path) -> None:
        """A save to `place` does not end: nothing is tried there until `reopened`."""
        self._shut.add(place)

    def reopened(self, place: Path) -> None:
        """That save has ended after all."""
        self._shut.discard(place)
