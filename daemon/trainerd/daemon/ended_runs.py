"""What of runs that have ended is still shown to Prometheus: /metrics must not grow for ever."""

from __future__ import annotations

SETTLE_S = 300.0
"""Seconds after its end that every series of a run is there: each was scraped by then."""
KEEP_S = 24 * 3600.0
"""Seconds that the few that say what became of it are kept: alerts have long spoken of its end."""
KEEP_RUNS = 100
"""Most runs that have ended of which anything is kept, whenever they ended."""


class EndedRuns:
    """Remembers when runs have ended. Not safe for threads; times are wall seconds."""

    def __init__(self) -> None:
        self._ended: dict[str, float] = {}
        self._settled: set[str] = set()

    def add(self, run: str, wall: float) -> None:
        """A run has ended."""
        self._ended[run] = wall

    def forget(self, run: str) -> None:
        """It is deleted, or expired."""
        self._ended.pop(run, None)
        self._settled.discard(run)

    def settled(self, wall: float) -> list[str]:
        """Those of which only what became of them is to be shown from now on, each once."""
        found = [
            run
            for run, ended in self._ended.items()
            if run not in self._settled and wall - ended > SETTLE_S
        ]
        self._settled.update(found)
        return found

    def expired(self, wall: float) -> list[str]:
        """Those of which nothing is to be shown any more."""
        in_order = sorted(self._ended, key=self._ended.__getitem__)
        beyond = len(in_order) - KEEP_RUNS
        return [
            run
            for place, run in enumerate(in_order)
            if place < beyond or wall - self._ended[run] > KEEP_S
        ]
