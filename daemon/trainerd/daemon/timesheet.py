"""A run's time: every moment of it went to one activity, and nothing is counted twice.

What a live process does it tells itself, in seconds since it began; all other time is told by the
run's state. Both are folded from journal records, so that the next daemon comes to the same sums;
telemetry only shows earlier what the record of the process's exit says in the end. What a process
has not told yet is not counted; once it is gone, what it did not tell went to its restart.

No clock here: `now` is monotonic seconds of the daemon's clock, and never falls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trainerd.daemon.supervision.activities import Activity, ActivityTime
from trainerd.daemon.supervision.events import RunState

LINKED_S = 2.0
"""A process that has lived for less when it is first heard of was linked at once: until then its
run counts as without it, which is what has been shown already."""
GONE_S = 120.0
"""A process of a run that has ended is gone by then, even if nobody ever says so."""
SLACK_S = 1.0
"""A process may tell of so many seconds more than have passed since: its messages take time."""

_IDLE: Mapping[RunState, Activity] = {
    RunState.QUEUED: Activity.QUEUED,
    RunState.STARTING: Activity.INIT,
    RunState.RUNNING: Activity.RESTART,
    RunState.RECOVERING: Activity.RESTART,
    RunState.PAUSED: Activity.PAUSED,
    RunState.STOPPING: Activity.DRAIN,
}
"""What the time without a process goes to; a run that has ended has none."""


@dataclass(slots=True)
class _Process:
    """A live process: what it told last, and what of it is counted."""

    incarnation: int
    since: float
    told: dict[Activity, float]
    counted: dict[Activity, float] = field(default_factory=dict)
    finished: bool = False


@dataclass(slots=True)
class Timesheet:
    """One run's time from its submission on; all before `until` is booked.

    `idle`: what time without a process goes to; None: the run has `ended`, then.
    `heard`: its process has been heard of by this daemon, or there is none.
    """

    submitted: float
    until: float
    idle: Activity | None = Activity.QUEUED
    ended: float | None = None
    heard: bool = True
    began: bool = False
    process: _Process | None = None
    booked: dict[Activity, float] = field(default_factory=dict)

    @classmethod
    def of(cls, now: float) -> Timesheet:
        """The timesheet of a run that is submitted now."""
        return cls(submitted=now, until=now)

    def moved(self, state: RunState, now: float) -> None:
        """The run's state has changed."""
        if self.process is None:
            self._pass(now)
        idle = _IDLE.get(state)
        if idle is Activity.INIT and self.began:
            idle = Activity.RESTART
        self.idle = idle
        if idle is None:
            self.ended = now

    def spawned(self, incarnation: int, now: float) -> None:
        """A new process is started: one before it is gone, even if nobody has said so."""
        if self.process is not None and self.process.incarnation < incarnation:
            self.gone(self.process.incarnation, (), now)

    def attached(self, incarnation: int, times: Iterable[ActivityTime], now: float) -> None:
        """A process of the run is linked, perhaps again."""
        self.heard = True
        if self.process is not None and self.process.incarnation == incarnation:
            self.told(incarnation, times, now)
            return
        self.spawned(incarnation, now)
        told = _sums(times)
        lived_s = sum(told.values())
        at_once = lived_s < LINKED_S
        self._pass(now if at_once else now - lived_s)
        self.began = True
        self.process = _Process(incarnation, self.until, told if at_once else {})
        if not at_once:
            self.told(incarnation, times, now)

    def told(self, incarnation: int, times: Iterable[ActivityTime], now: float) -> None:
        """A process has told how it has spent its time since it began."""
        process = self.process
        if process is None or process.incarnation != incarnation:
            return
        sums = _sums(times)
        passed = {
            activity: seconds - process.told.get(activity, 0.0)
            for activity, seconds in sums.items()
            if seconds > process.told.get(activity, 0.0)
        }
        process.told.update({activity: sums[activity] for activity in passed})
        room_s = now - process.since - sum(process.counted.values()) + SLACK_S
        # Nobody else's time is touched by a process that tells of more than there was.
        share = min(1.0, max(0.0, room_s) / (sum(passed.values()) or 1.0))
        for activity, seconds in passed.items():
            process.counted[activity] = process.counted.get(activity, 0.0) + seconds * share

    def finished(self, incarnation: int) -> None:
        """The process has done all it had to: the rest of its life is drain."""
        if self.process is not None and self.process.incarnation == incarnation:
            self.process.finished = True

    def gone(self, incarnation: int, times: Iterable[ActivityTime], now: float) -> None:
        """A process of the run has ended; `times` as far as anybody knows."""
        process = self.process
        if process is None or process.incarnation != incarnation:
            return
        self.heard = True
        self.told(incarnation, times, now)
        for activity, seconds in process.counted.items():
            self._book(activity, seconds)
        self.until = process.since + sum(process.counted.values())
        self.process = None
        over = self.idle is None
        self.idle = Activity.DRAIN if process.finished else Activity.RESTART
        self._pass(now)
        if over:
            self.idle = None

    def seconds(self, now: float) -> dict[Activity, float]:
        """Seconds by activity, zeros too. They sum to the run's time, but for what is not told."""
        sums = {activity: self.booked.get(activity, 0.0) for activity in Activity}
        if self.process is not None:
            for activity, seconds in self.process.counted.items():
                sums[activity] += seconds
            if self.ended is not None and now - self.ended > GONE_S:
                told_until = self.process.since + sum(self.process.counted.values())
                sums[Activity.RESTART] += max(0.0, self.ended - told_until)
        elif self.idle is not None:
            sums[self.idle] += max(0.0, now - self.until)
        return sums

    def _pass(self, until: float) -> None:
        """Book the time until then, which no process has told of."""
        if self.idle is not None:
            self._book(self.idle, max(0.0, until - self.until))
        self.until = max(self.until, until)

    def _book(self, activity: Activity, seconds: float) -> None:
        self.booked[activity] = self.booked.get(activity, 0.0) + seconds


def _sums(times: Iterable[ActivityTime]) -> dict[Activity, float]:
    return {each.activity: each.seconds for each in times}
