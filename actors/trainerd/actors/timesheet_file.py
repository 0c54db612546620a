"""A process's timesheet beside its run's files: what it could not tell any more, its launcher can.

No fsync: it is for the death of the process, not of the host.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trainerd.actors.launcher.runs import RunFiles
from trainerd.actors.timesheet import Timesheet
from trainerd.actors.trainer import messages
from trainerd.v1 import event_pb2, launcher_pb2


class TimesheetFile:
    """Where one process writes how it has spent its time; from one thread."""

    def __init__(self, path: Path | None, timesheet: Timesheet) -> None:
        self._path, self._timesheet = path, timesheet

    @classmethod
    def of(cls, assignment: launcher_pb2.Assignment, timesheet: Timesheet) -> TimesheetFile:
        """The file of this incarnation; without a run directory nothing is written."""
        if not assignment.run_directory:
            return cls(None, timesheet)
        files = RunFiles(root=Path(assignment.run_directory))
        return cls(files.times(assignment.incarnation), timesheet)

    def write(self) -> None:
        """Write it anew. A disk that refuses is told of once, and left alone from then on."""
        if self._path is None:
            return
        times = messages.activity_times(self._timesheet.spent_s())
        data = event_pb2.TrainerExited(times=times).SerializeToString()
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # An activity is never left out again: what is written never gets shorter.
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError as error:
            print(f"trainerd: the timesheet is not written: {error}", file=sys.stderr)
            self._path = None
