"""Where a loop is: said once to the reporter each time it changes."""

from __future__ import annotations

from trainerd.actors.reports import Phase, Reporter


class Stage:
    """The current phase. Owned by the loop."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.phase = Phase.SPAWN

    def enter(self, phase: Phase, step: int) -> None:
        """Be in `phase` at `step` applied updates; nothing is said if that is so already."""
        if phase is not self.phase:
            self.phase = phase
            self._reporter.entered(phase, step)
