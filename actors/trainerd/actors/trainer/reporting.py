"""The loop's reporter: everything it says goes to the outbox, and on by the link."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Mapping

from trainerd.actors.reports import Controls, Fault, Phase, Result, SaveRecord, StepRecord, Verdict
from trainerd.actors.trainer import messages
from trainerd.actors.trainer.decisions import DecisionSlot
from trainerd.actors.trainer.situation import Situation
from trainerd.v1 import event_pb2, fault_pb2, run_pb2, trainer_pb2
from trainerd.v1.mailbox import MailboxOverflow, Outbox

DECISION_TIMEOUT_S = 60.0


class Outcome(enum.Enum):
    """What the last fault that needed a decision led to."""

    NONE = "none"
    FAIL = "fail"
    RESTART = "restart"
    PENDING = "pending"


class LinkReporter:
    """Implements `reports.Reporter`. Only `decide` waits, and no longer than its deadline."""

    def __init__(
        self,
        *,
        outbox: Outbox[trainer_pb2.AttachRequest],
        situation: Situation,
        controls: Controls,
        decisions: DecisionSlot,
        reset_link: Callable[[], None],
        decision_timeout_s: float = DECISION_TIMEOUT_S,
    ) -> None:
        self._outbox = outbox
        self._situation = situation
        self._controls = controls
        self._decisions = decisions
        self._reset_link = reset_link
        self._decision_timeout_s = decision_timeout_s
        self._applied: StepRecord | None = None
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
        self._post(
            event_pb2.Event(
                state_restored=event_pb2.StateRestored(step=step, batch=batch, source=source)
            )
        )

    def stepped(self, record: StepRecord) -> None:
        """A batch was dispatched: telemetry, nothing before the first applied update."""
        if record.applied:
            self._applied = record
        if self._applied is None:
            return
        self._situation.advance(record.step)
        self._outbox.coalesce(
            "step",
            trainer_pb2.AttachRequest(step_report=messages.step_report(record, self._applied)),
            messages.merge_step_reports,
        )

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

    def decide(self, fault: Fault) -> Verdict:
        """Ask the supervisor. Without an answer in time: RESTART, which the next daemon judges."""
        if fault.detail:
            print(fault.detail, file=sys.stderr)
        self._decisions.ask(
            lambda question: self._post(
                messages.fault_raised(fault, awaits_decision=True, question=question)
            )
        )
        decision = self._decisions.wait(self._decision_timeout_s)
        if decision is None:
            print(f"trainerd: no decision came for: {fault.message}", file=sys.stderr)
            self.outcome = Outcome.PENDING
            return Verdict.RESTART
        action = fault_pb2.Action.Name(decision.action).removeprefix("ACTION_").lower()
        print(f"trainerd: {fault.message}: {action}: {decision.reason}", file=sys.stderr)
        return self._carry_out(decision.action)

    def paused(self, step: int) -> None:
        """The trainer holds."""
        self._post(event_pb2.Event(trainer_paused=event_pb2.TrainerPaused(step=step)))

    def resumed(self, step: int) -> None:
        """The trainer goes on."""
        self._post(event_pb2.Event(trainer_resumed=event_pb2.TrainerResumed(step=step)))

    def finished(self, result: Result) -> None:
        """The loop is over."""
        self._post(messages.trainer_finished(result))

    def _carry_out(self, action: fault_pb2.Action) -> Verdict:
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
            case _:
                # Rollback and reform are more than this process can do alone; so is what it does
                # not know. A new process begins from the newest good state.
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
