"""What Prometheus scrapes. Every label set is bounded; counters of a run start at zero.

Metrics are fed by journal records and by telemetry, never by the supervisor itself. What the
journal feeds survives the daemon: the next one counts on from the records. What telemetry feeds
(steps, examples, durations of steps and recoveries) begins anew with it, and so does what is the
daemon's own. The series of a run are removed with the run.
"""

from __future__ import annotations

import platform
import typing
from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from trainerd.daemon import codec
from trainerd.daemon.checkpoint_metrics import CheckpointMetrics
from trainerd.daemon.ended_runs import EndedRuns
from trainerd.daemon.journal import Stored
from trainerd.daemon.metric_families import Families
from trainerd.daemon.supervision.events import RunState, TrainerEvent
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.state import ON_REQUEST, Run, State
from trainerd.daemon.telemetry import Pulse
from trainerd.daemon.time_metrics import Spent, TimeMetrics
from trainerd.daemon.views import TERMINAL
from trainerd.v1 import event_pb2, fault_pb2, inject_pb2, trainer_pb2
from trainerd.v1.protocol import SOFTWARE

_TRAINER_EVENTS = typing.get_args(TrainerEvent)
_SKIPPED = ("data_error", "non_finite_step", "non_finite_microbatch", "loss_spike")
_RESTARTED = (
    FaultClass.CRASH,
    FaultClass.HANG,
    FaultClass.DEVICE_ERROR,
    FaultClass.DEVICE_OOM,
    FaultClass.STEP_EXCEPTION,
)
_ROLLED_BACK = (
    FaultClass.NON_FINITE_MICROBATCH,
    FaultClass.NON_FINITE_STEP,
    FaultClass.LOSS_SPIKE,
)
"""What is usually answered so: alerts ask how much these counters rise, so they begin at 0."""
_STEP_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RECOVERY_BUCKETS = (0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 30, 60, 120, 300)
_CALL_BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)


class Metrics:
    """The daemon's registry and what feeds it."""

    def __init__(self, host: str, spent: Spent = lambda _: {}) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._host = host
        self.registry = registry = CollectorRegistry()
        self._known: set[str] = set()
        self._ended = EndedRuns()
        self._families = families = Families(registry)
        gauge, counter, histogram = families.gauge, families.counter, families.histogram
        info = Info("trainerd_build", "Version of this daemon.", registry=registry)
        info.info({"version": SOFTWARE, "python": platform.python_version()})
        ProcessCollector(registry=registry)
        registry.register(TimeMetrics(lambda: sorted(self._known), spent))
        self.run_info = gauge("run_info", "1; what a run is called.", "run", "name", lasting=True)
        self.target_steps = gauge(
            "run_target_steps", "Applied updates that complete a run.", "run", lasting=True
        )
        self.paused_by_fault = gauge(
            "run_paused_by_fault", "1 while a run is held that nobody asked to pause.", "run"
        )
        self.run_state = gauge(
            "run_state", "1 for the state a run is in.", "run", "state", lasting=True
        )
        self.run_step = gauge("run_step", "Applied updates of a run.", "run", lasting=True)
        self.run_loss = gauge("run_loss", "Loss of the newest applied update.", "run", lasting=True)
        self.steps = counter(
            "steps", "Applied updates, repeated ones included.", "run", lasting=True
        )
        self.examples = counter("examples", "Examples trained on.", "run", lasting=True)
        self.step_s = histogram(
            "step_duration_seconds", "Duration of a step.", _STEP_BUCKETS, "run", "host"
        )
        self.faults = counter(
            "faults", "Faults by class and by what was done.", "run", "host", "class", "action"
        )
        self.step_errors = counter(
            "step_errors", "Faults of a step by class and action.", "run", "class", "action"
        )
        self.skipped = counter("skipped_batches", "Batches left out.", "run", "class")
        self.restarts = counter(
            "restarts", "Restarts and rollbacks after a fault.", "run", "scope", "class"
        )
        self.injected = counter("injected_faults", "Faults on purpose.", "run", "fault")
        self.recovery_s = histogram(
            "recovery_duration_seconds",
            "Fault seen to next new step.",
            _RECOVERY_BUCKETS,
            "run",
            "class",
        )
        self._checkpoints = CheckpointMetrics(families)
        self.trainer_up = gauge("trainer_up", "1 while a trainer is attached.", "host")
        self.trainer_state = gauge(
            "trainer_state", "1 for the phase the trainer is in.", "host", "state"
        )
        self.heartbeat_age_s = gauge(
            "trainer_heartbeat_age_seconds", "Seconds since the trainer was heard of.", "host"
        )
        self.memory = gauge("trainer_memory_bytes", "Memory of the trainer.", "host", "kind")
        self.host_up = gauge("host_up", "1 while the host's launcher is linked.", "host")
        self.stale = counter(
            "stale_events", "Stale and duplicate messages of trainers, ignored.", "kind"
        )
        self.journal_s = Histogram(
            "trainerd_journal_write_duration_seconds",
            "Duration of one journal commit.",
            registry=registry,
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
        )
        self.journal_refusals = Counter(
            "trainerd_journal_write_failures",
            "Journal commits that failed: nothing of them has happened.",
            registry=registry,
        )
        self.journal_writable = Gauge(
            "trainerd_journal_writable", "0 while the newest commit has failed.", registry=registry
        )
        self.journal_writable.set(1)
        self.rpc_s = histogram(
            "rpc_duration_seconds", "Duration of a control call.", _CALL_BUCKETS, "method", "code"
        )
        for event in _TRAINER_EVENTS:
            self.stale.labels(event.__name__)
        self.trainer_up.labels(host).set(0)
        self.host_up.labels(host).set(0)

    def count(self, stored: Stored, state: State) -> None:
        """Count what a record says, of this daemon or of one before."""
        message, run = stored.message, stored.message.run
        if stored.ignored:
            return
        match stored.kind:
            case "run_submitted":
                self._declare(run)
                spec = message.run_submitted.spec
                self.run_info.labels(run, spec.name).set(1)
                self.target_steps.labels(run).set(spec.train.steps)
            case "run_state_changed" if message.run_state_changed.to in TERMINAL:
                self._ended.add(run, stored.wall)
            case "run_deleted":
                self.forget(run)
            case "decision_made" if not message.decision_made.trial and run in state.runs:
                self._decided(run, message.decision_made)
            case "checkpoint_saved":
                self._checkpoints.saved(run, message.checkpoint_saved)
            case "fault_injected":
                fault = inject_pb2.InjectedFault.Name(message.fault_injected.fault)
                self.injected.labels(run, _name(fault, "INJECTED_FAULT_")).inc()
            case "fault_raised":
                self._checkpoints.failed(run, message.fault_raised.fault)
            case "checkpoints_verified" if run in self._known:
                verified = message.checkpoints_verified
                self._checkpoints.durable.verified(run, verified, stored.wall)
            case _:
                pass

    def show(self, stored: Stored, state: State) -> None:
        """Show what a record that has just been journalled says of the present."""
        message, run = stored.message, stored.message.run
        if stored.ignored:
            self._ignored(stored.kind)
            return
        match stored.kind:
            case "run_state_changed" if run in state.runs:
                self.set_state(state.runs[run])
            case "checkpoint_saved":
                self._checkpoints.show(stored)
            case "rolled_back":
                self._checkpoints.rolled_back(run, message.rolled_back)
                self.run_step.labels(run).set(message.rolled_back.step)
            case "checkpoints_verified" if run in self._known:
                self._checkpoints.durable.show_left(run, message.checkpoints_verified)
            case "launcher_attached":
                self.host_up.labels(self._host).set(1)
            case "launcher_lost":
                self.host_up.labels(self._host).set(0)
            case "trainer_attached":
                self.trainer_up.labels(self._host).set(1)
            case "trainer_detached" | "trainer_exited":
                self.trainer_up.labels(self._host).set(0)
                self._phase("")
            case "phase_entered":
                self._phase(_name(fault_pb2.Phase.Name(message.phase_entered.phase), "PHASE_"))
            case _:
                pass

    def restore(self, state: State, saves: Mapping[str, Stored]) -> None:
        """After a replay: show the runs as they are; `saves`: their newest checkpoint's records."""
        for run in state.runs.values():
            self._declare(run.id)
            self.set_state(run)
            if run.id in saves:
                save = saves[run.id]
                self._checkpoints.show(save)
                self.run_step.labels(run.id).set(save.message.checkpoint_saved.step)

    def committed(self, duration_s: float) -> None:
        """A journal commit is on disk."""
        self.journal_s.observe(duration_s)
        self.journal_writable.set(1)

    def journal_refused(self) -> None:
        """A journal commit has failed."""
        self.journal_refusals.inc()
        self.journal_writable.set(0)

    def step_report(self, run: str, report: trainer_pb2.StepReport, pulse: Pulse) -> None:
        """Feed one telemetry report."""
        self.run_step.labels(run).set(report.step)
        self.run_loss.labels(run).set(report.loss)
        self.steps.labels(run).inc(pulse.advance)
        self.examples.labels(run).inc(report.examples)
        for duration_s in report.durations_s:
            self.step_s.labels(run, self._host).observe(duration_s)

    def heartbeat(self, pulse: Pulse) -> None:
        """Feed one sign of life."""
        self.memory.labels(self._host, "resident").set(pulse.resident_bytes)
        self.memory.labels(self._host, "device").set(pulse.device_bytes)

    def recovered(self, run: str, fault_class: str, duration_s: float) -> None:
        """A recovery has ended with a new step."""
        self.recovery_s.labels(run, fault_class).observe(duration_s)

    def heard(self, age_s: float) -> None:
        """The age of the newest sign of life of the host's trainer."""
        self.heartbeat_age_s.labels(self._host).set(age_s)

    def set_state(self, run: Run) -> None:
        """Show the state of a run."""
        for state in RunState:
            self.run_state.labels(run.id, state.value).set(state is run.state)
        held = run.state is RunState.PAUSED and run.hold != ON_REQUEST
        self.paused_by_fault.labels(run.id).set(held)

    def expire(self, wall: float) -> None:
        """Remove the series of runs that ended a while ago."""
        for run in self._ended.expired(wall):
            self.forget(run)
        for run in self._ended.settled(wall):
            self._families.settle(run)

    def forget(self, run: str) -> None:
        """Remove every series of a run."""
        self._known.discard(run)
        self._ended.forget(run)
        self._checkpoints.forget(run)
        self._families.forget(run)

    def _declare(self, run: str) -> None:
        if run in self._known:
            return
        self._known.add(run)
        self._checkpoints.declare(run)
        for metric in (self.steps, self.examples, self.run_step):
            metric.labels(run)
        corrupt = FaultClass.CHECKPOINT_CORRUPT.value
        self.faults.labels(run, self._host, corrupt, Action.CONTINUE.value)
        for fault_class in _RESTARTED:
            self.restarts.labels(run, "process", fault_class.value)
        for fault_class in (FaultClass.CRASH, FaultClass.HANG):
            self.recovery_s.labels(run, fault_class.value)
        for fault_class in _ROLLED_BACK:
            self.restarts.labels(run, "rollback", fault_class.value)
        for name in _SKIPPED:
            self.skipped.labels(run, name)

    def _decided(self, run: str, made: event_pb2.DecisionMade) -> None:
        fault_class = _name(fault_pb2.FaultClass.Name(getattr(made.fault, "class")), "FAULT_CLASS_")
        action = _name(fault_pb2.Action.Name(made.decision.action), "ACTION_")
        self.faults.labels(run, self._host, fault_class, action).inc()
        if made.fault.batch >= 0:
            self.step_errors.labels(run, fault_class, action).inc()
        if action == Action.SKIP.value and fault_class in _SKIPPED:
            self.skipped.labels(run, fault_class).inc()
        if action == Action.RESTART.value:
            self.restarts.labels(run, made.decision.scope, fault_class).inc()
        elif action == Action.ROLLBACK.value:
            # Back to an older state in the same process.
            self.restarts.labels(run, action, fault_class).inc()

    def _ignored(self, kind: str) -> None:
        event = codec.KINDS[kind]
        if event in _TRAINER_EVENTS:
            self.stale.labels(event.__name__).inc()

    def _phase(self, now: str) -> None:
        for phase in Phase:
            self.trainer_state.labels(self._host, phase.value).set(phase.value == now)


def _name(text: str, prefix: str) -> str:
    return text.removeprefix(prefix).lower()
