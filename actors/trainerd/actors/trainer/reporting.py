"""The loop's reporter: everything it says goes to the outbox, and on by the link."""

from __future__ import annotations

import enum
import sys
import time
from collections.abc import Callable, Mapping

from trainerd.actors.drills import Injection
from trainerd.actors.reports import (
    Controls,
    Fault,
    Judgement,
    Phase,
    Result,
    RollbackRecord,
    SaveRecord,
    StepRecord,
    Verdict,
)
from trainerd.actors.timesheet import Activity, Timesheet
from trainerd.actors.trainer import messages
from trainerd.actors.trainer.decisions import DecisionSlot
from trainerd.actors.trainer.profiling import Profiled, Profiler
from trainerd.actors.trainer.situation import Situation
from trainerd.actors.trainer.step_history import History, NoHistory
from trainerd.actors.trainer.tally import Tally
from trainerd.v1 import event_pb2, fault_pb2, run_pb2, trainer_pb2
from trainerd.v1.mailbox import MailboxOverflow, Outbox

DECISION_TIMEOUT_S = 60.0
INJECTION_TIMEOUT_S = 10.0
STEPS_EVERY_S = 0.1
"""How often steps are told at most: a report costs both ends more than a small step takes."""


class Outcome(enum.Enum):
    """What the last fault that needed a decision led to."""

    NONE = "none"
    FAIL = "fail"
    RESTART = "restart"
    PENDING = "pending"


class LinkReporter:
    """Implements `reports.Reporter`. Only `decide` and `announced` wait, each to its deadline."""

    def __init__(
        self,
        *,
        outbox: Outbox[trainer_pb2.AttachRequest],
        situation: Situation,
        controls: Controls,
        decisions: DecisionSlot,
        reset_link: Callable[[], None],
        decision_timeout_s: float = DECISION_TIMEOUT_S,
        injection_timeout_s: float = INJECTION_TIMEOUT_S,
        history: History | None = None,
        profiler: Profiler | None = None,
        clock: Callable[[], float] = time.monotonic,
        timesheet: Timesheet | None = None,
    ) -> None:
        self._outbox = outbox
        self._situation = situation
        self._controls = controls
        self._decisions = decisions
        self._reset_link = reset_link
        self._decision_timeout_s = decision_timeout_s
        self._injection_timeout_s = injection_timeout_s
        self._clock = clock
        self._history = history or NoHistory()
        self._profiler = profiler
        self._timesheet = timesheet or Timesheet(clock)
        self._tally = Tally(self._timesheet)
        self._steps_due_s = clock()
        self.outcome = Outcome.NONE

    def entered(self, phase: Phase, step: int) -> None:
        """A phase began."""
        self._situation.enter(phase, step)
        self._post(
            event_pb2.Event(
                phase_entered=event_pb2.PhaseEntered(phase=messages.phase_name(phase), step=step)
            )
        )

    def slots_fixed(self, slots: int) -> None:
        """The number of slots was chosen."""
        self._post(event_pb2.Event(slots_fixed=event_pb2.SlotsFixed(slots=slots)))

    def restored(self, step: int, batch: int, source: str) -> None:
        """The state was restored or made."""
        self._situation.advance(step)
        self._history.went_back(step)
        self._post(
            event_pb2.Event(
                state_restored=event_pb2.StateRestored(step=step, batch=batch, source=source)
            )
        )

    def stepped(self, record: StepRecord) -> None:
        """A batch was dispatched: telemetry, nothing before the first applied update.

        A step after a silence is told at once, those that follow it together.
        """
        if record.applied:
            self._history.stepped(record)
        if self._profiler is not None:
            self._profiler.stepped(record.step)
        if not self._tally.add(record):
            return
        self._situation.advance(record.step)
        if self._clock() >= self._steps_due_s and (told := self._tally.take()) is not None:
            self._steps_due_s = self._clock() + STEPS_EVERY_S
            self._outbox.coalesce("step", told, messages.merge_step_reports)

    def snapshotted(self, step: int, every: int) -> None:
        """The newest snapshot in memory is of `step`, -1: there is none; see `Recovery.told`."""
        self._tally.snapshots(step, every)

    def take_steps(self) -> trainer_pb2.AttachRequest | None:
        """Return what is left to tell of steps; from the link's thread, which asks often enough."""
        return self._tally.take()

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """An evaluation was made."""
        evaluation = run_pb2.Evaluation(step=step, metrics=metrics)
        self._post(event_pb2.Event(evaluated=event_pb2.Evaluated(evaluation=evaluation)))

    def saved(self, record: SaveRecord) -> None:
        """A checkpoint is durable."""
        self._post(messages.checkpoint_saved(record))

    def faulted(self, fault: Fault) -> None:
        """A fault that was handled, or that does not stop training."""
        self._post(messages.fault_raised(fault, awaits_decision=False))

    def decide(self, fault: Fault) -> Judgement:
        """Ask the supervisor. Without an answer in time: RESTART, which the next daemon judges."""
        if fault.detail:
            print(fault.detail, file=sys.stderr)
        self._decisions.ask(
            lambda question: self._post(
                messages.fault_raised(fault, awaits_decision=True, question=question)
            )
        )
        with self._timesheet.within(Activity.DECISION_WAIT):
            decision = self._decisions.wait(self._decision_timeout_s)
        if decision is None:
            print(f"trainerd: no decision came for: {fault.message}", file=sys.stderr)
            self.outcome = Outcome.PENDING
            return Judgement(verdict=Verdict.RESTART)
        action = fault_pb2.Action.Name(decision.action).removeprefix("ACTION_").lower()
        print(f"trainerd: {fault.message}: {action}: {decision.reason}", file=sys.stderr)
        verdict = self._carry_out(decision.action, fault)
        return Judgement(verdict=verdict, rollback_steps=decision.rollback_steps)

    def rolled_back(self, record: RollbackRecord) -> None:
        """The run goes on from an older state."""
        self.outcome = Outcome.NONE
        self._situation.advance(record.step)
        self._history.went_back(record.step)
        print(
            f"trainerd: back from step {record.from_step} to {record.step} ({record.source}); "
            f"batches {record.first_batch} to {record.last_batch} are left out",
            file=sys.stderr,
        )
        self._post(messages.rolled_back(record))

    def announced(self, injection: Injection, step: int, batch: int) -> bool:
        """Say that a fault is about to happen on purpose, and wait until that is journalled.

        False: it was not within `INJECTION_TIMEOUT_S`.
        """
        dropped = self._outbox.dropped
        self._post(messages.fault_injected(injection, step, batch))
        journalled = self._outbox.wait_acknowledged(self._injection_timeout_s)
        return journalled and self._outbox.dropped == dropped

    def profiled(self, profiled: Profiled) -> None:
        """A profile was taken, or could not be; from any thread."""
        self._post(messages.profiled(profiled))

    def paused(self, step: int) -> None:
        """The trainer holds."""
        if self._profiler is not None:
            self._profiler.cut("the run was paused")
        self._post(event_pb2.Event(trainer_paused=event_pb2.TrainerPaused(step=step)))

    def resumed(self, step: int) -> None:
        """The trainer goes on."""
        self._post(event_pb2.Event(trainer_resumed=event_pb2.TrainerResumed(step=step)))

    def finished(self, result: Result) -> None:
        """The loop is over."""
        self._post(messages.trainer_finished(result))

    def _carry_out(self, action: fault_pb2.Action, fault: Fault) -> Verdict:
        match action:
            case fault_pb2.ACTION_CONTINUE:
                return Verdict.CONTINUE
            case fault_pb2.ACTION_MASK:
                return Verdict.MASK
            case fault_pb2.ACTION_SKIP:
                return Verdict.SKIP
            case fault_pb2.ACTION_PAUSE:
                self._controls.pause()
                return Verdict.CONTINUE
            case fault_pb2.ACTION_FAIL:
                self.outcome = Outcome.FAIL
                return Verdict.FAIL
            case fault_pb2.ACTION_ROLLBACK if fault.batch >= 0:
                # What is to become of this process if it cannot go back.
                self.outcome = Outcome.RESTART
                return Verdict.ROLLBACK
            case _:
                # Without a batch to leave out there is no use in going back, and reform is more
                # than this process can do alone; so is what it does not know. A new process begins
                # from the newest good state.
                self.outcome = Outcome.RESTART
                return Verdict.RESTART

    def _post(self, event: event_pb2.Event) -> int:
        """Queue a report; return its sequence."""
        message = trainer_pb2.AttachRequest(event=event)
        try:
            return self._outbox.post(message)
        except MailboxOverflow as overflow:
            # Everything is dropped, this report too. The next greeting states the situation; the
            # newest report is not in it, so it is said again, and so is a fault that waits.
            print(f"trainerd: reports dropped: {overflow}", file=sys.stderr)
            self._reset_link()
            sequence = self._outbox.post(message)
            self._decisions.ask_again()
            return sequence
