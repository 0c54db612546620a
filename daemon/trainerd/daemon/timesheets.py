"""The timesheets of all runs: folded from the journal, and kept up to date by telemetry."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping

from trainerd.daemon import codec
from trainerd.daemon.journal import Stored
from trainerd.daemon.supervision.activities import Activity, ActivityTime
from trainerd.daemon.supervision.events import RunState
from trainerd.daemon.timesheet import Timesheet
from trainerd.v1 import event_pb2, run_pb2, timesheet_pb2


class Timesheets:
    """Safe to read from any thread; bounded by the number of runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sheets: dict[str, Timesheet] = {}

    def record(self, stored: Stored) -> None:
        """Take one journal record, derived ones included."""
        if stored.ignored:
            return
        message, run, now = stored.message, stored.message.run, stored.now
        with self._lock:
            if stored.kind == "run_submitted":
                self._sheets[run] = Timesheet.of(now)
            elif stored.kind == "run_deleted":
                self._sheets.pop(run, None)
            elif (sheet := self._sheets.get(run)) is not None:
                _take(sheet, stored.kind, message, now)

    def replayed(self) -> None:
        """The journal is read: what its processes did since, they have still to tell."""
        with self._lock:
            for sheet in self._sheets.values():
                sheet.heard = sheet.process is None or sheet.ended is not None

    def told(
        self,
        run: str,
        incarnation: int,
        times: Iterable[timesheet_pb2.ActivityTime],
        now: float,
    ) -> None:
        """Telemetry of a live process."""
        if (known := activity_times(times)) and (sheet := self._sheets.get(run)) is not None:
            with self._lock:
                sheet.told(incarnation, known, now)

    def seconds(self, run: str, now: float) -> Mapping[Activity, float]:
        """Seconds by activity; empty while the run's process has still to be heard of."""
        with self._lock:
            sheet = self._sheets.get(run)
            return sheet.seconds(now) if sheet is not None and sheet.heard else {}


def activity_times(
    messages: Iterable[timesheet_pb2.ActivityTime],
) -> tuple[ActivityTime, ...]:
    """What a process tells, user code being in it: unknown names and no seconds are left out."""
    known = {}
    for message in messages:
        activity = _ACTIVITIES.get(message.activity)
        if activity is not None and math.isfinite(message.seconds) and message.seconds > 0:
            known[activity] = message.seconds
    return tuple(
        ActivityTime(activity=activity, seconds=seconds) for activity, seconds in known.items()
    )


def _take(sheet: Timesheet, kind: str, message: event_pb2.Event, now: float) -> None:
    match kind:
        case "run_state_changed":
            state = run_pb2.RunState.Name(message.run_state_changed.to)
            sheet.moved(RunState(state.removeprefix("RUN_STATE_").lower()), now)
        case "trainer_spawned":
            sheet.spawned(message.incarnation, now)
        case "trainer_attached":
            times = activity_times(message.trainer_attached.times)
            sheet.attached(message.incarnation, times, now)
        case "trainer_finished":
            sheet.finished(message.incarnation)
        case "trainer_exited":
            times = activity_times(message.trainer_exited.times)
            sheet.gone(message.incarnation, times, now)
        case _:
            pass  # The rest says nothing of where time went.


_FIELD = timesheet_pb2.ActivityTime.DESCRIPTOR.fields_by_name["activity"]
_ACTIVITIES = {codec.enum_value(_FIELD, activity): activity for activity in Activity}
ACTIVITY_NUMBERS: Mapping[Activity, int] = {
    activity: number for number, activity in _ACTIVITIES.items()
}
"""The numbers of `trainerd.v1.Activity`."""
