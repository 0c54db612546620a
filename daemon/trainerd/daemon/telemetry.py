"""What trainers report between events: newest step, loss, rates, memory. Never journalled.

Telemetry reaches neither the supervisor nor the journal. It feeds the views, the metrics, and the
monitor, which alone turns its absence into events.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainerd.daemon import codec
from trainerd.daemon.journal import Stored
from trainerd.daemon.supervision.state import Run, State
from trainerd.v1 import fault_pb2, incident_pb2, trainer_pb2

MAX_VERSIONS = 64
"""Versions of a greeting that are kept."""
LAST_STEPS = 64
"""Newest step reports that are kept for an incident."""
_RECOVERIES = (fault_pb2.ACTION_RESTART, fault_pb2.ACTION_ROLLBACK)
RATE_WINDOW_S = 10.0
"""Seconds over which step rates are taken."""


@dataclass(slots=True)
class Pulse:
    """The newest telemetry of one run. Times are monotonic seconds of the daemon's clock.

    `told`: whether a report of a step came. `advance`: updates applied since the report before the
    newest, repeated ones included. `reached`: the highest `step` so far. `snapshot_step`,
    `snapshot_every`: as reported; 0: there are no snapshots. `longest_step_s`: the longest step, or
    wait for one, so far. `host`, `versions`: as the trainer greeted.
    """

    step: int = 0
    reached: int = 0
    loss: float = 0.0
    told: bool = False
    gradient_norm: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    skipped_batches: int = 0
    masked_slots: int = 0
    resident_bytes: int = 0
    device_bytes: int = 0
    heard_at: float = 0.0
    progress_at: float = 0.0
    fault_at: float | None = None
    fault_class: str = ""
    fault_step: int = 0
    last_recovery_s: float = 0.0
    snapshot_step: int = 0
    snapshot_every: int = 0
    advance: int = 0
    longest_step_s: float = 0.0
    host: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    last_steps: collections.deque[incident_pb2.StepSample] = field(
        default_factory=lambda: collections.deque(maxlen=LAST_STEPS)
    )
    _marks: collections.deque[tuple[float, int, int]] = field(default_factory=collections.deque)

    def step_report(self, report: trainer_pb2.StepReport, now: float) -> float | None:
        """Take a report; return the recovery time in seconds if it ends a recovery."""
        silent_s = now - self.progress_at if self.progress_at else 0.0
        self.longest_step_s = max(self.longest_step_s, silent_s, *report.durations_s)
        self.heard_at = self.progress_at = now
        # A report lists at most 256 durations; after a restart the step goes back.
        count = len(report.durations_s)
        self.advance = max(count, report.step - self.step) if self.told else count
        self.told = True
        self.step, self.loss = report.step, report.loss
        self.reached = max(self.reached, report.step)
        self.gradient_norm, self.metrics = report.gradient_norm, dict(report.metrics)
        self.skipped_batches = report.skipped_batches
        self.masked_slots = report.masked_slots
        self.snapshot_step = report.snapshot_step
        self.snapshot_every = report.snapshot_every
        self.last_steps.append(
            incident_pb2.StepSample(
                step=report.step,
                loss=report.loss,
                gradient_norm=report.gradient_norm,
                duration_s=max(report.durations_s, default=0.0),
            )
        )
        self._marks.append((now, report.step, report.examples))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_WINDOW_S:
            self._marks.popleft()
        if self.fault_at is not None and report.step > self.fault_step:
            self.last_recovery_s = now - self.fault_at
            self.fault_at = None
            return self.last_recovery_s
        return None

    def greeted(self, hello: trainer_pb2.TrainerHello, host: str, now: float) -> None:
        """Take the greeting of a process, which may not be the one of before."""
        self.heard_at = self.progress_at = now
        self.host = host
        self.versions = dict(list(hello.versions.items())[:MAX_VERSIONS])

    def moved(self, report: trainer_pb2.StepReport, now: float) -> None:
        """Take a report of a process for itself, not for its run."""
        self.heard_at = self.progress_at = now
        self.step, self.snapshot_step = report.step, report.snapshot_step

    def fault(self, fault_class: str, now: float) -> None:
        """A fault threw training back: time until the next new step counts as recovery."""
        self._marks.clear()
        if self.fault_at is None:
            self.fault_at, self.fault_class = now, fault_class
            self.fault_step = max(self.fault_step, self.step)

    def rates(self, now: float) -> tuple[float, float]:
        """Applied updates and examples a second over the last seconds; 0 when nothing moves."""
        if len(self._marks) < 2 or now - self._marks[-1][0] > RATE_WINDOW_S:
            return 0.0, 0.0
        first, last = self._marks[0], self._marks[-1]
        elapsed = last[0] - first[0]
        if elapsed <= 0:
            return 0.0, 0.0
        examples = sum(mark[2] for mark in list(self._marks)[1:])
        return max(0.0, (last[1] - first[1]) / elapsed), examples / elapsed


class Telemetry:
    """The pulses of all runs and of their processes; bounded by the number of runs and hosts."""

    def __init__(self) -> None:
        self._pulses: dict[str, Pulse] = {}
        self._of_processes: dict[str, dict[str, Pulse]] = {}

    def of(self, run: str, host: str = "") -> Pulse:
        """The run's pulse, or that of its process on `host`; an empty one if nobody was heard of.

        Where the host has no name the two are one.
        """
        pulses, key = self._pulses, run
        if host:
            pulses, key = self._of_processes.setdefault(run, {}), host
        pulse = pulses.get(key)
        if pulse is None:
            pulse = pulses[key] = Pulse()
        return pulse

    def snapshot_of_all(self, run: Run) -> int:
        """Step of the newest snapshot of which every process has its part; 0: there is none."""
        return min((self.of(run.id, host).snapshot_step for host in run.members), default=0)

    def record(self, stored: Stored, state: State) -> None:
        """A journal record: a recovery starts its clock, a deleted run is forgotten."""
        run = stored.message.run
        if run not in state.runs:
            self._pulses.pop(run, None)
            self._of_processes.pop(run, None)
        elif stored.kind == "decision_made":
            made = stored.message.decision_made
            uncharged = made.trial or codec.is_uncharged(made.fault)
            if made.decision.action in _RECOVERIES and not uncharged:
                self.of(run).fault(codec.class_name(made.fault), stored.now)
        elif stored.kind == "rolled_back" and not stored.ignored:
            self.of(run).step = stored.message.rolled_back.step
