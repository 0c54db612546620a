"""All runs, in two parts: those that events may still befall, and those that are over.

An event copies the first part and shares the second, so that its cost does not grow with what a
host has behind it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from trainerd.daemon.supervision.state import Run


class Runs(Mapping[str, Run]):
    """Runs by their ids: the living ones first. Neither part is changed once it is in a state."""

    __slots__ = ("living", "over")

    def __init__(self, living: Mapping[str, Run], over: Mapping[str, Run]) -> None:
        self.living = living
        self.over = over

    @classmethod
    def of(cls, runs: Mapping[str, Run]) -> Runs:
        """The same runs; free of cost where they are in two parts already."""
        if isinstance(runs, Runs):
            return runs
        living = {name: run for name, run in runs.items() if not run.over}
        return cls(living, {name: run for name, run in runs.items() if run.over})

    def without(self, name: str) -> Runs:
        """The runs but this one."""
        parts = (
            {each: run for each, run in part.items() if each != name} if name in part else part
            for part in (self.living, self.over)
        )
        return Runs(*parts)

    def __getitem__(self, name: str) -> Run:
        run = self.living.get(name)
        return run if run is not None else self.over[name]

    def __contains__(self, name: object) -> bool:
        return name in self.living or name in self.over

    def __iter__(self) -> Iterator[str]:
        return itertools.chain(self.living, self.over)

    def __len__(self) -> int:
        return len(self.living) + len(self.over)

    def __repr__(self) -> str:
        return f"Runs(living={dict(self.living)!r}, over={dict(self.over)!r})"
