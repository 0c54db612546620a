"""Where a loop is: said once to the reporter each time it changes, and what its time goes to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType

from trainerd.actors.reports import Phase, Reporter
from trainerd.actors.timesheet import Activity, Timesheet

_ACTIVITIES: Mapping[Phase, Activity] = MappingProxyType(
    {
        Phase.SPAWN: Activity.INIT,
        Phase.INIT: Activity.INIT,
        Phase.RESTORE: Activity.RESTORE,
        Phase.COMPILE: Activity.COMPILE,
        Phase.FIRST_STEP: Activity.PRODUCTIVE,
        Phase.STEP: Activity.PRODUCTIVE,
        Phase.SAVE: Activity.CHECKPOINT_BLOCKED,
        Phase.DRAIN: Activity.DRAIN,
        Phase.PAUSED: Activity.PAUSED,
        Phase.EVALUATE: Activity.EVALUATE,
    }
)


class Stage:
    """The current phase. Owned by the loop.

    `reached_step`: the most updates the run has had so far, in other processes; what is applied up
    to there is recomputed.
    """

    def __init__(
        self, reporter: Reporter, timesheet: Timesheet | None = None, *, reached_step: int = 0
    ) -> None:
        self._reporter = reporter
        self._timesheet = timesheet or Timesheet()
        self._reached_step = reached_step
        self.phase = Phase.SPAWN

    def enter(self, phase: Phase, step: int) -> None:
        """Be in `phase` at `step` applied updates; nothing is said if that is so already."""
        if phase is not self.phase:
            self.phase = phase
            self._reporter.entered(phase, step)
        activity = _ACTIVITIES[phase]
        if step >= self._reached_step:
            self._reached_step = step
        elif activity is Activity.PRODUCTIVE:
            activity = Activity.RECOMPUTED
        self._timesheet.turn(activity)

    def within(self, activity: Activity) -> AbstractContextManager[None]:
        """Spend time on `activity` in this block; the phase stays."""
        return self._timesheet.within(activity)
