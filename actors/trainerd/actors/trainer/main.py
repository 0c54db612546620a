"""One trainer process from its assignment to its exit code."""

from __future__ import annotations

import faulthandler
import functools
import importlib.metadata
import os
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trainerd.actors.reports import Controls, FinishReason, Phase, Result
from trainerd.actors.rules import Rulebook
from trainerd.actors.run_lock import RunBusy, RunLock
from trainerd.actors.timesheet import Timesheet
from trainerd.actors.timesheet_file import TimesheetFile
from trainerd.actors.trainer import birth, codes, messages, standard_streams
from trainerd.actors.trainer.commands import Commands
from trainerd.actors.trainer.decisions import DecisionSlot
from trainerd.actors.trainer.drilling import TrainerDrill
from trainerd.actors.trainer.link import Identity, Link, Listener
from trainerd.actors.trainer.profiling import Profiled, Profiler
from trainerd.actors.trainer.reporting import LinkReporter, Outcome
from trainerd.actors.trainer.situation import Situation
from trainerd.actors.trainer.step_history import open_history
from trainerd.v1 import launcher_pb2, protocol, trainer_pb2
from trainerd.v1.lean_imports import lean_imports
from trainerd.v1.mailbox import Outbox

if TYPE_CHECKING:
    from trainerd.actors.gang import Joining
    from trainerd.actors.head_start import HeadStart

FAREWELL_TIMEOUT_S = 10.0
"""Seconds to wait at the end until the daemon has journalled the last report."""
CLAIM_PATIENCE_S = 2.0
"""Seconds to wait for what the run's last trainer left behind to end."""
REFUSED_GRACE_S = 10.0
"""Seconds a refused trainer may take to reach a step boundary before it is ended."""
_PACKAGES = ("trainerd", "jax", "jaxlib", "optax", "orbax-checkpoint", "grain", "numpy")


def main(data: bytes, *, imported: bool = False) -> NoReturn:
    """Run the assignment and exit; never returns. `data` is the serialised Assignment.

    `imported`: the training library and the run's module are, by a standby.
    """
    code = codes.DEFECT
    try:
        standard_streams.forgive()
        code = _run(launcher_pb2.Assignment.FromString(data), imported=imported)
    except BaseException:
        # A defect of ours: the traceback goes to the log, the supervisor handles the exit.
        traceback.print_exc()
    _exit(code)


def _run(assignment: launcher_pb2.Assignment, *, imported: bool) -> int:
    if not birth.launcher_lives(assignment.launcher_pid):
        print("trainerd: the launcher is gone already", file=sys.stderr)
        return codes.DEFECT
    try:
        _claim(assignment)
    except RunBusy as error:
        print(f"trainerd: {error}", file=sys.stderr)
        return codes.REFUSED
    # Shows the stacks of all threads of a trainer that hangs.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    process = TrainerProcess(assignment)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.controls.stop(FinishReason.PREEMPTED))
    if imported:
        # Before the link, whose imports take turns with what begins here.
        process.begin_early()
    process.link.start()
    try:
        return process.run()
    finally:
        process.over.set()
        process.history.close()
        process.link.close()


def _claim(assignment: launcher_pb2.Assignment) -> None:
    """Lock the run for as long as this process lives. Raises `RunBusy`.

    Where there can be no lock there are no snapshots either; the devices' lock is held in any case.
    """
    if not assignment.snapshot_directory:
        return
    try:
        RunLock.take(Path(assignment.snapshot_directory), patience_s=CLAIM_PATIENCE_S)
    except OSError as error:
        print(f"trainerd: no snapshots are taken in memory: {error}", file=sys.stderr)
        assignment.snapshot_directory = ""


def _exit(code: int) -> NoReturn:
    """Exit now: a library may have left a thread behind that never ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class TrainerProcess:
    """The parts of a trainer, put together around one assignment."""

    def __init__(self, assignment: launcher_pb2.Assignment) -> None:
        self.assignment = assignment
        self.controls = Controls()
        self.over = threading.Event()
        self._head_start: HeadStart | None = None
        self._joining: Joining | None = None
        self._refused = threading.Event()
        self._decisions = DecisionSlot()
        self._situation = Situation()
        self._timesheet = timesheet = Timesheet()
        outbox: Outbox[trainer_pb2.AttachRequest] = Outbox()
        self._profiler = Profiler(Path(assignment.run_directory) / "profiles", self._tell_profiled)
        self.history = open_history(
            assignment.run_directory, assignment.snapshot_directory, assignment.incarnation
        )
        self._reporter = LinkReporter(
            outbox=outbox,
            situation=self._situation,
            controls=self.controls,
            decisions=self._decisions,
            reset_link=self._reset_link,
            history=self.history,
            profiler=self._profiler,
            timesheet=timesheet,
        )
        self._rulebook = Rulebook(version=assignment.policy_version)
        # Without a gang, a process is number 0.
        leads = assignment.gang.process_id == 0
        self._drill = TrainerDrill(self._reporter.announced, leads=leads)
        for armed in assignment.injections:
            self._drill.arm(armed)
        self.link = Link(
            identity=Identity(
                run=assignment.run,
                incarnation=assignment.incarnation,
                host=assignment.host,
                address=assignment.attach_address,
                token=assignment.token,
                pid=os.getpid(),
                versions=versions(),
            ),
            outbox=outbox,
            situation=self._situation,
            listener=Listener(
                commanded=Commands(
                    controls=self.controls,
                    decisions=self._decisions,
                    rulebook=self._rulebook,
                    arm=self._drill.arm,
                    profile=self._profiler.ask,
                ).obey,
                orphaned=lambda: self.controls.stop(FinishReason.PREEMPTED),
                refused=self._on_refused,
            ),
            orphan_grace_s=assignment.orphan_grace_s,
            awaited=lambda: self._decisions.awaited,
            telemetry=self._reporter.take_steps,
            times=lambda: messages.activity_times(timesheet.spent_s()),
            look=TimesheetFile.of(assignment, timesheet).write,
        )

    def begin_early(self) -> None:
        """Begin what can be begun where everything is imported already."""
        from trainerd.actors.trainer.training import head_start, join  # noqa: PLC0415

        self._joining = join(self.assignment)
        self._head_start = head_start(self.assignment, self._joining)

    def run(self) -> int:
        """Train; return the exit code. Raise only for a defect of trainerd itself."""
        self._reporter.entered(Phase.INIT, 0)
        # Imports jax: the link is already being made.
        with lean_imports():
            from trainerd.actors.trainer.plans import build_recovery  # noqa: PLC0415
            from trainerd.actors.trainer.training import train  # noqa: PLC0415

        result = train(
            self.assignment,
            self._reporter,
            self.controls,
            self._situation,
            rulebook=self._rulebook,
            drill=self._drill,
            recovery=build_recovery(
                self.assignment, self._reporter.snapshotted, head_start=self._head_start
            ),
            joining=self._joining,
            timesheet=self._timesheet,
        )
        self._profiler.close()
        # Before anybody hears that the run is over: its metrics are all there then.
        self.history.close()
        if self._refused.is_set():
            return codes.REFUSED
        self._reporter.finished(result)
        if not self.link.drain(FAREWELL_TIMEOUT_S):
            print("trainerd: the daemon has not taken the last report", file=sys.stderr)
        return exit_code(result, self._reporter.outcome)

    def _tell_profiled(self, profiled: Profiled) -> None:
        self._reporter.profiled(profiled)

    def _reset_link(self) -> None:
        self.link.reset()

    def _on_refused(self, reason: str) -> None:
        """End without a trace in the checkpoints: another incarnation may own them by now."""
        print(f"trainerd: the daemon refuses this trainer: {reason}", file=sys.stderr)
        self._refused.set()
        self.controls.stop(FinishReason.STOPPED, save=False)
        self._decisions.close()
        if not self.over.wait(REFUSED_GRACE_S):
            _exit(codes.REFUSED)


def exit_code(result: Result, outcome: Outcome) -> int:
    """The exit code of a loop that ended in good order."""
    if result.reason is not FinishReason.DECIDED:
        return codes.FINISHED
    match outcome:
        case Outcome.PENDING:
            return codes.DECISION_PENDING
        case Outcome.RESTART:
            return codes.RESTART
        case _:
            return codes.FAILED


@functools.cache
def versions() -> Mapping[str, str]:
    """Of what this process runs. Looked up once: a standby does it before it forks."""
    found = {"python": platform.python_version(), "trainerd": protocol.SOFTWARE}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
