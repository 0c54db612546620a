"""What people see of a run: facts folded from the journal, beside the supervisor's own state."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trainerd.daemon import codec
from trainerd.daemon.disk_forecast import full_at
from trainerd.daemon.journal import Stored
from trainerd.daemon.left_out import LeftOut
from trainerd.daemon.supervision import state as supervision
from trainerd.daemon.supervision.events import RunState
from trainerd.daemon.supervision.events.verification import DAMAGED
from trainerd.daemon.supervision.state import TERMINAL as _TERMINAL
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.terms import policy_with_defaults
from trainerd.daemon.timesheets import ACTIVITY_NUMBERS, Timesheets
from trainerd.v1 import event_pb2, fault_pb2, incident_pb2, run_pb2, timesheet_pb2
from trainerd.v1.protocol import SNAPSHOT_SUFFIX

_RUN = run_pb2.Run.DESCRIPTOR.fields_by_name
MILD = frozenset({fault_pb2.ACTION_CONTINUE, fault_pb2.ACTION_MASK, fault_pb2.ACTION_SKIP})
_RESTARTS = frozenset({fault_pb2.ACTION_RESTART, fault_pb2.ACTION_REFORM})
"""Decisions after which the run goes on as before."""
TERMINAL = frozenset(codec.enum_value(_RUN["state"], state) for state in _TERMINAL)
"""Numbers of the states that a run does not leave."""


INIT = "init"
"""Where a state came from that was made, not restored."""
_FAR_S = 32_503_680_000.0
"""The year 3000: what lies beyond it is never."""
MAX_SAVES = 64
"""Checkpoints of a run that are remembered: far more than are kept."""


@dataclass(slots=True)
class RunFacts:
    """Facts about one run that no decision rests on.

    Sequences of records: `cause` of the newest event, `expired` of the newest missed deadline,
    `story` of what led to the newest decision that changed the run's course; 0: none. `saves`:
    records of the newest durable checkpoints that a rollback has not removed, oldest first.
    `restored`: where the state came from that this process trains on, and its step. `verified`:
    monotonic seconds of the newest verification of the checkpoints, or of the submission.
    """

    facts: run_pb2.Run = field(default_factory=run_pb2.Run)
    saves: collections.deque[Stored] = field(
        default_factory=lambda: collections.deque(maxlen=MAX_SAVES)
    )
    left_out: LeftOut = field(default_factory=LeftOut)
    restored: tuple[int, str] = (-1, "")
    restore_directories: tuple[str, ...] = ()
    verified: float = 0.0
    reached: int = 0
    cause: int = 0
    expired: int = 0
    story: int = 0


class Views:
    """All runs as the API shows them. Fold the journal through `apply` to build it again."""

    def __init__(self, telemetry: Telemetry, timesheets: Timesheets | None = None) -> None:
        self._telemetry = telemetry
        self._timesheets = timesheets or Timesheets()
        self._runs: dict[str, RunFacts] = {}

    def apply(self, stored: Stored) -> None:
        """Take one journal record, derived ones included."""
        self._timesheets.record(stored)
        message = stored.message
        if stored.ignored:
            return
        if stored.kind == "run_submitted":
            facts = RunFacts()
            facts.facts.spec.CopyFrom(message.run_submitted.spec)
            facts.facts.resumed_run = message.run_submitted.resumed_run
            facts.restore_directories = tuple(message.run_submitted.restore_directories)
            # What it begins with is there: it was durable when it was submitted.
            facts.restored = self.checkpoint(message.run_submitted.resumed_run)
            facts.verified = stored.now
            facts.facts.submitted_at.CopyFrom(message.time)
            self._runs[message.run] = facts
            return
        if stored.kind == "run_deleted":
            self._runs.pop(message.run, None)
        known = self._runs.get(message.run)
        if known is not None:
            if not stored.derived:
                known.cause = stored.sequence
            _fold(known, stored)

    def spec(self, run: str) -> run_pb2.RunSpec:
        """The run's specification, defaults filled in."""
        return self._runs[run].facts.spec

    def sharded(self, run: str) -> bool:
        """Whether each process of it has but a part of its state."""
        known = self._runs.get(run)
        layout = known.facts.spec.train.state if known is not None else None
        return layout == run_pb2.STATE_LAYOUT_SHARDED

    def restore_directories(self, run: str) -> tuple[str, ...]:
        """Where the run's state may be beside its own checkpoint directory."""
        return self._runs[run].restore_directories

    def ended_at(self, run: str) -> float:
        """When an ended run ended, in seconds since 1970."""
        time = self._runs[run].facts.ended_at
        return time.seconds + time.nanos * 1e-9

    def resumed_run(self, run: str) -> str:
        """The run whose state it began with; empty: none."""
        return self._runs[run].facts.resumed_run

    def host(self, run: str) -> str:
        """The host that its newest trainer greeted from; empty: not known."""
        return self._telemetry.of(run).host

    def story(self, run: str) -> int:
        """Sequence of the record with which the run's present story begins; 0: with the run."""
        known = self._runs.get(run)
        return known.story if known is not None else 0

    def reached(self, run: str) -> int:
        """The most applied updates that the run is known to have had."""
        return max(self._runs[run].reached, self._telemetry.of(run).reached)

    def saves(self) -> Mapping[str, Stored]:
        """The record of each run's newest durable checkpoint."""
        return {run: known.saves[-1] for run, known in self._runs.items() if known.saves}

    def checkpoint(self, run: str) -> tuple[int, str]:
        """Step and path of the newest durable state to go on from; (-1, ""): there is none."""
        known = self._runs.get(run)
        if known is None:
            return -1, ""
        if not known.saves:
            return known.restored
        saved = known.saves[-1].message.checkpoint_saved
        # One that is newer was durable, and its process died before it could say so.
        return max((saved.step, saved.path), known.restored, key=lambda place: place[0])

    def verified(self, run: str) -> float:
        """When the run's checkpoints were verified last, in monotonic seconds; never: when it was
        submitted."""
        return self._runs[run].verified

    def ledger(
        self, run: str, *, without: fault_pb2.Fault | None = None
    ) -> list[incident_pb2.LedgerEntry]:
        """What the run has left out so far. `without`: but for what this fault led to."""
        known = self._runs.get(run)
        return list(known.left_out.entries(without=without)) if known is not None else []

    def policy(self, run: supervision.Run) -> fault_pb2.Policy:
        """The run's policy as it is now, defaults filled in."""
        if run.policy_message:
            return policy_with_defaults(fault_pb2.Policy.FromString(run.policy_message))
        return policy_with_defaults(self.spec(run.id).policy)

    def snapshot(self, run: supervision.Run, now: float) -> run_pb2.Run:
        """The run as the API shows it, at monotonic time `now`."""
        view = run_pb2.Run()
        known = self._runs.get(run.id)
        if known is not None:
            view.CopyFrom(known.facts)
        if not run.terminal:
            view.ClearField("result")
        pulse = self._telemetry.of(run.id)
        view.id = run.id
        view.state = codec.enum_value(_RUN["state"], run.state)  # type: ignore[assignment]
        view.reason = run.reason
        view.incarnation = run.incarnation
        view.slots = run.slots
        view.slot_parts = run.slot_parts
        view.policy_version = run.policy_version
        view.durable_step = -1
        if known is not None and known.saves:
            view.durable_step = known.saves[-1].message.checkpoint_saved.step
        view.step = max(view.step, pulse.step)
        view.loss = pulse.loss or view.loss
        view.first_loss = run.first_loss or 0.0
        view.skipped_batches = max(view.skipped_batches, pulse.skipped_batches)
        view.masked_slots = max(view.masked_slots, pulse.masked_slots)
        view.last_recovery_s = pulse.last_recovery_s
        if not run.terminal:
            view.snapshot_step = pulse.snapshot_step
            if self.sharded(run.id):
                view.snapshot_step = self._telemetry.snapshot_of_all(run)
            view.snapshot_every = pulse.snapshot_every
        view.times.extend(
            timesheet_pb2.ActivityTime(activity=ACTIVITY_NUMBERS[activity], seconds=seconds)  # type: ignore[arg-type]
            for activity, seconds in self._timesheets.seconds(run.id, now).items()
            if seconds
        )
        if run.trainer is not None:
            view.pid = run.trainer.pid
            view.attached = run.trainer.attached
            view.phase = codec.enum_value(_RUN["phase"], run.trainer.phase)  # type: ignore[assignment]
        for trainer in run.members.values():
            view.members.add(
                host=trainer.host,
                process=trainer.process,
                pid=trainer.pid,
                attached=trainer.attached,
                phase=codec.enum_value(_RUN["phase"], trainer.phase),
            )
        if run.state is RunState.RUNNING:
            view.steps_per_second, view.examples_per_second = pulse.rates(now)
            left = view.spec.train.steps - view.step
            if view.steps_per_second > 0 and left > 0:
                view.eta_s = left / view.steps_per_second
        return view


def _fold(known: RunFacts, stored: Stored) -> None:
    facts, message = known.facts, stored.message
    match stored.kind:
        case "decision_made" if message.decision_made.trial:
            pass  # Nothing was done.
        case "decision_made":
            _decided(known, message.decision_made)
        case "deadline_expired":
            known.expired = stored.sequence
        case "evaluated":
            evaluation = message.evaluated.evaluation
            if not facts.HasField("first_evaluation"):
                facts.first_evaluation.CopyFrom(evaluation)
            facts.last_evaluation.CopyFrom(evaluation)
        case "checkpoint_saved":
            known.saves.append(stored)
            _saved(known, stored)
            facts.step = max(facts.step, message.checkpoint_saved.step)
            known.reached = max(known.reached, message.checkpoint_saved.step)
        case "fault_raised":
            fault = message.fault_raised.fault
            if is_failed_save(fault):
                facts.checkpoint_failures += 1
                facts.checkpoint.failure = fault.message
            known.left_out.raised(fault)
        case "rolled_back":
            _rolled_back(known, message.rolled_back)
        case "checkpoints_verified":
            known.verified = stored.now
            _verified(known, message.checkpoints_verified)
        case "trainer_finished":
            result = message.trainer_finished.result
            facts.result.CopyFrom(result)
            if message.trainer_finished.reason != event_pb2.FINISH_REASON_DECIDED:
                # A trainer that a fault has ended may not know what it had reached.
                facts.step, facts.loss = result.step, result.loss
                facts.skipped_batches = result.skipped_batches
                facts.masked_slots = result.masked_slots
        case "state_restored":
            _went_back(known, message.state_restored.step, message.state_restored.source)
        case "trainer_attached":
            facts.step = max(facts.step, message.trainer_attached.step)
            known.reached = max(known.reached, message.trainer_attached.step)
        case "run_state_changed":
            if message.run_state_changed.to in TERMINAL:
                facts.ended_at.CopyFrom(message.time)
        case _:
            pass  # The other kinds add nothing to what the supervisor's state shows.


def is_failed_save(fault: fault_pb2.Fault) -> bool:
    """Whether a fault is a save that failed; one that is asked about sums up others."""
    failed = getattr(fault, "class") == fault_pb2.FAULT_CLASS_CHECKPOINT_SAVE_FAILED
    return failed and not fault.awaits_decision


def disk_samples(saves: Iterable[Stored]) -> list[tuple[float, float]]:
    """When what was free beside a run's checkpoints: (time, bytes), oldest first, of one disk."""
    told = [(stored.wall, stored.message.checkpoint_saved) for stored in saves]
    newest = told[-1][1].fallback if told else False
    return [
        (wall, float(saved.disk_free_bytes))
        for wall, saved in told
        # An older trainer did not tell.
        if saved.disk_bytes > 0 <= saved.disk_free_bytes and saved.fallback == newest
    ]


def newest_left(shown: int, verified: event_pb2.CheckpointsVerified) -> int:
    """The newest durable step after a verification; `shown` was thought to be it."""
    damaged = max((each.step for each in verified.rejected if each.reason == DAMAGED), default=-1)
    # What was saved while it went on is newer than all that it has read.
    return min(shown, verified.durable_step) if shown <= damaged else shown


def _saved(known: RunFacts, stored: Stored) -> None:
    facts = known.facts
    facts.checkpoint_failures = 0
    facts.checkpoint.CopyFrom(_status(known, stored))


def _status(known: RunFacts, stored: Stored) -> run_pb2.CheckpointStatus:
    saved = stored.message.checkpoint_saved
    status = run_pb2.CheckpointStatus(
        path=saved.path,
        fallback=saved.fallback,
        bytes=saved.bytes,
        every_steps=saved.every_steps,
        disk_bytes=saved.disk_bytes,
        disk_free_bytes=saved.disk_free_bytes if saved.disk_bytes else -1,
    )
    status.saved_at.CopyFrom(stored.message.time)
    if (full_s := full_at(disk_samples(known.saves))) < _FAR_S:
        status.disk_full_at.FromSeconds(int(full_s))
    return status


def _decided(known: RunFacts, made: event_pb2.DecisionMade) -> None:
    known.left_out.decided(made)
    action = made.decision.action
    if action not in MILD:
        hang = getattr(made.fault, "class") == fault_pb2.FAULT_CLASS_HANG
        # The trainer was killed for it; what the decision follows is only its exit.
        known.story = known.expired if hang and known.expired else known.cause
        known.expired = 0
    if not codec.is_uncharged(made.fault):
        known.facts.last_fault.CopyFrom(made.fault)
        known.facts.restarts += action in _RESTARTS


def _rolled_back(known: RunFacts, event: event_pb2.RolledBack) -> None:
    known.reached = max(known.reached, event.from_step)
    known.facts.rollbacks += 1
    known.left_out.rolled_back(event)
    _went_back(known, event.step, event.source)


def _went_back(known: RunFacts, step: int, source: str) -> None:
    """The trainer has the newest state there is to go on from; newer ones are gone or damaged."""
    known.facts.step = step
    if not source.endswith(SNAPSHOT_SUFFIX):
        known.restored = _place(step, source)
    elif known.restored[0] > step:
        known.restored = _place(-1, INIT)
    while known.saves and known.saves[-1].message.checkpoint_saved.step > step:
        known.saves.pop()


def _verified(known: RunFacts, verified: event_pb2.CheckpointsVerified) -> None:
    """What is damaged is not offered any more, nor what retention has removed since."""
    steps = [stored.message.checkpoint_saved.step for stored in known.saves]
    left = [
        stored
        for step, stored in zip(steps, known.saves, strict=True)
        if newest_left(step, verified) == step
    ]
    if newest_left(known.restored[0], verified) != known.restored[0]:
        known.restored = (verified.durable_step, verified.durable_path)
    if len(left) == len(steps):
        return
    known.saves.clear()
    known.saves.extend(left)
    failure = known.facts.checkpoint.failure
    known.facts.ClearField("checkpoint")
    if known.saves:
        known.facts.checkpoint.CopyFrom(_status(known, known.saves[-1]))
    known.facts.checkpoint.failure = failure


def _place(step: int, source: str) -> tuple[int, str]:
    return (-1, "") if source == INIT else (step, source)
