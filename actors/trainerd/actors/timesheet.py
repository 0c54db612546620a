"""How a process spends its time: at any moment on one activity, so that the parts are the whole."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager


class Activity(enum.Enum):
    """What a trainer's time goes to; the values are the names of `trainerd.v1.Activity`."""

    PRODUCTIVE = "productive"
    RECOMPUTED = "recomputed"
    INIT = "init"
    COMPILE = "compile"
    RESTORE = "restore"
    EVALUATE = "evaluate"
    CHECKPOINT_BLOCKED = "checkpoint_blocked"
    SNAPSHOT = "snapshot"
    DATA_WAIT = "data_wait"
    DECISION_WAIT = "decision_wait"
    DRAIN = "drain"
    PAUSED = "paused"

    # By identity: an enum's own hash is that of its name, several times a step.
    __hash__ = object.__hash__


class Timesheet:
    """Seconds by activity since it was made, in *init* at first. Safe to read from any thread.

    One thread says what it turns to. The seconds never fall, and sum to the time that has passed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._activity = Activity.INIT
        self._since_s = clock()
        self._spent_s: dict[Activity, float] = {}

    def turn(self, activity: Activity) -> Activity:
        """Spend time on `activity` from now on; return what it went to before."""
        before = self._activity
        if activity is not before:
            with self._lock:
                now_s = self._clock()
                self._book(now_s)
                self._activity, self._since_s = activity, now_s
        return before

    def within(self, activity: Activity) -> AbstractContextManager[None]:
        """Spend time on `activity` in a block, and on what it went to before after it."""
        return _Within(self, activity)

    def spent_s(self) -> Mapping[Activity, float]:
        """Seconds by activity so far; those that took none are left out."""
        with self._lock:
            now_s = self._clock()
            spent_s = dict(self._spent_s)
            running_s = max(0.0, now_s - self._since_s)
            spent_s[self._activity] = spent_s.get(self._activity, 0.0) + running_s
            return spent_s

    def _book(self, now_s: float) -> None:
        spent_s = max(0.0, now_s - self._since_s)
        self._spent_s[self._activity] = self._spent_s.get(self._activity, 0.0) + spent_s


class _Within:
    """Turns to an activity, and back."""

    __slots__ = ("_activity", "_before", "_timesheet")

    def __init__(self, timesheet: Timesheet, activity: Activity) -> None:
        self._timesheet, self._activity = timesheet, activity

    def __enter__(self) -> None:
        self._before = self._timesheet.turn(self._activity)

    def __exit__(self, *_: object) -> None:
        self._timesheet.turn(self._before)
