"""Steps on their way to the daemon: counted by the loop, told by the link, a few times a second."""

from __future__ import annotations

import collections
import threading

from trainerd.actors.reports import StepRecord
from trainerd.actors.timesheet import Timesheet
from trainerd.actors.trainer import messages
from trainerd.v1 import trainer_pb2


class Tally:
    """What was stepped and not told yet, as one report. Safe to use from several threads.

    Newest values win, amounts add up; of the durations the newest `messages.MAX_DURATIONS` stay.
    Before the first applied update there is nothing to tell.
    """

    def __init__(self, timesheet: Timesheet) -> None:
        self._timesheet = timesheet
        self._lock = threading.Lock()
        self._newest: StepRecord | None = None
        self._applied: StepRecord | None = None
        self._durations: collections.deque[float] = collections.deque(maxlen=messages.MAX_DURATIONS)
        self._examples, self._data_wait_s = 0, 0.0
        self._snapshot_step = self._snapshot_every = 0

    def add(self, record: StepRecord) -> bool:
        """Count one batch; False: there is nothing to tell yet."""
        with self._lock:
            if record.applied:
                self._applied = record
                self._durations.append(record.duration_s)
                self._examples += record.examples
            if self._applied is None:
                return False
            self._newest = record
            self._data_wait_s += record.data_wait_s
            return True

    def snapshots(self, step: int, every: int) -> None:
        """The newest snapshot is of `step`, -1: there is none; `every` as in a report."""
        with self._lock:
            self._snapshot_step, self._snapshot_every = max(0, step), every

    def take(self) -> trainer_pb2.AttachRequest | None:
        """Return what is to be told, and count from nothing again; None: it was told already."""
        with self._lock:
            newest, applied = self._newest, self._applied
            if newest is None or applied is None:
                return None
            durations, examples = tuple(self._durations), self._examples
            data_wait_s = self._data_wait_s
            snapshot = self._snapshot_step, self._snapshot_every
            self._newest = None
            self._durations.clear()
            self._examples, self._data_wait_s = 0, 0.0
        report = messages.step_report(
            newest, applied, durations_s=durations, examples=examples, data_wait_s=data_wait_s
        )
        report.snapshot_step, report.snapshot_every = snapshot
        report.times.extend(messages.activity_times(self._timesheet.spent_s()))
        return trainer_pb2.AttachRequest(step_report=report)
