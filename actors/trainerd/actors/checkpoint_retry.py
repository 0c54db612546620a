"""When a save that failed is tried again: a rule without a clock of its own."""

from __future__ import annotations

FIRST_S = 1.0
LONGEST_S = 60.0
MOST = 8


class Retry:
    """After a failure the next try falls due in 1 s, then 2 s, 4 s … at most 60 s later.

    After 8 tries in a row that failed too, only what is due anyway is tried, until one succeeds.
    Not safe for threads: its owner guards it.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._due_s: float | None = None

    def failed(self, now: float, *, elsewhere: bool = False) -> None:
        """A save failed at `now`. `elsewhere`: there is another directory, to be tried at once."""
        self._failures += 1
        if self._failures > MOST:
            return
        wait_s = min(FIRST_S * 2.0 ** (self._failures - 1), LONGEST_S)
        self._due_s = now if elsewhere else now + wait_s

    def succeeded(self) -> None:
        """A save succeeded: the next failure is a first one."""
        self._failures = 0
        self._due_s = None

    def began(self) -> None:
        """A save begins, whatever for: it is the try that was due."""
        self._due_s = None

    def due(self, now: float) -> bool:
        """Whether to try again at `now`."""
        return self._due_s is not None and now >= self._due_s
