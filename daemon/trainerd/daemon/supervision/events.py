"""Everything that can happen to the supervisor: past-tense facts, one dataclass each.

Events about a trainer carry the incarnation they speak of; late news of a past one is a no-op.
`trainerd.v1.Event` holds a message of the same name and fields for each.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainerd.daemon.supervision.drills import InjectedFault, Injection
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.policy import FaultClass, Policy


class RunState(enum.Enum):
    """The life of a run; which may follow which is in `state.EDGES`."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    RECOVERING = "recovering"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"


class FinishReason(enum.Enum):
    """Why a trainer finished."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    PREEMPTED = "preempted"
    DECIDED = "decided"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted:
    """A daemon began to read this journal; its links are not up yet."""

    version: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTrainer:
    """A trainer process that lives."""

    run: str
    incarnation: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherAttached:
    """The launcher is linked; its whole situation."""

    instance: str
    pid: int
    trainers: tuple[LiveTrainer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherLost:
    """The link to the launcher is lost."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSubmitted:
    """A client submitted a run. `spec` is opaque here; the rest but the last three is read from it.

    `injections`: the faults it asks for, those of its schedule drawn.
    """

    run: str
    name: str
    spec: bytes
    policy: Policy
    injections: tuple[Injection, ...] = ()
    request_id: str = ""
    resumed_run: str = ""
    restore_directories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequested:
    """A client asked to pause."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequested:
    """A client asked to go on."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """A client asked to stop, after a save or without."""

    run: str
    save: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRequested:
    """A client asked for a checkpoint."""

    run: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRequested:
    """A client asked for a new trainer process."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDeleted:
    """A client deleted the run."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged:
    """A client changed the policy, or put another one on `trial`.

    `message`: the whole policy as a serialised `v1.Policy`, opaque here; `policy` is read from it,
    but for what a run's checkpoint settings say.
    """

    run: str
    policy: Policy
    message: bytes
    trial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTrialEnded:
    """A client ended the trial of a policy."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionRequested:
    """A client asked for a fault."""

    run: str
    injection: Injection


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSpawned:
    """The launcher started a trainer process."""

    run: str
    incarnation: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSpawnFailed:
    """The launcher could not start one; `permanent`: another try is useless."""

    run: str
    incarnation: int
    message: str
    permanent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerAttached:
    """A trainer attached; its whole situation. `awaits`: the question it waits with, or 0."""

    run: str
    incarnation: int
    phase: Phase | None = None
    step: int = 0
    dropped_reports: int = 0
    awaits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerDetached:
    """A trainer's stream ended; the process may live."""

    run: str
    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerExited:
    """A trainer process ended: `exit_code`, or -1 and the `signal`."""

    run: str
    incarnation: int
    exit_code: int
    signal: int = 0
    killed_by_launcher: bool = False
    log_tail: str = ""
    stacks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEntered:
    """A trainer entered a phase."""

    run: str
    incarnation: int
    phase: Phase | None
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsFixed:
    """The number of slots was chosen, for good."""

    run: str
    incarnation: int
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRestored:
    """The state was restored from `source`, or made ("init")."""

    run: str
    incarnation: int
    step: int
    batch: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of one evaluation after `step` applied updates."""

    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """An evaluation was made."""

    run: str
    incarnation: int
    evaluation: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    """A checkpoint is durable."""

    run: str
    incarnation: int
    step: int
    path: str
    bytes: int = 0
    blocked_s: float = 0.0
    duration_s: float = 0.0
    request_ids: tuple[str, ...] = ()
    fallback: bool = False
    every_steps: int = 0
    coalesced: int = 0
    disk_bytes: int = 0
    disk_free_bytes: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRaised:
    """A trainer saw a fault. `question` names one that waits for a decision, or is 0.

    A fault that is raised again under the same question is the same fault.
    """

    run: str
    incarnation: int
    fault: Fault
    request_ids: tuple[str, ...] = ()
    question: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerPaused:
    """The trainer holds."""

    run: str
    incarnation: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerResumed:
    """The trainer goes on."""

    run: str
    incarnation: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run amounts to."""

    step: int = 0
    batches: int = 0
    masked_slots: int = 0
    skipped_batches: int = 0
    loss: float = 0.0
    state_digest: str = ""
    durable_step: int = -1
    checkpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerFinished:
    """The trainer has done all it had to; the process is about to end."""

    run: str
    incarnation: int
    reason: FinishReason
    result: RunResult
    durable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjected:
    """A fault that was asked for is about to happen."""

    run: str
    incarnation: int
    injection: int
    step: int
    batch: int
    fault: InjectedFault


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """The trainer went back from `from_step` to `step`.

    The batches from `first_batch` to `last_batch`, the offending one, are left out from now on.
    """

    run: str
    incarnation: int
    from_step: int
    step: int
    first_batch: int
    last_batch: int
    source: str
    fault_class: FaultClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """A memory snapshot holds `step`, above every earlier step that could be restored."""

    run: str
    incarnation: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """A timer that the supervisor started has run out."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineExpired:
    """The monitor saw no progress for longer than the phase may take."""

    run: str
    incarnation: int
    phase: Phase | None
    deadline_s: float
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """Derived: what the supervisor decided about which fault. `incident`: its number, or 0.

    `trial`: what the policy on trial would have decided; nothing was done.
    """

    run: str
    incarnation: int
    fault: Fault
    decision: Decision
    incident: int = 0
    trial: bool = False
    policy_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStateChanged:
    """Derived: a run's state changed."""

    run: str
    before: RunState | None
    after: RunState
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventIgnored:
    """Derived: an event could not be acted on; `reason` says why."""

    run: str
    kind: str
    reason: str


TrainerEvent = (
    TrainerSpawned
    | TrainerSpawnFailed
    | TrainerAttached
    | TrainerDetached
    | TrainerExited
    | PhaseEntered
    | SlotsFixed
    | StateRestored
    | Evaluated
    | CheckpointSaved
    | FaultRaised
    | TrainerPaused
    | TrainerResumed
    | TrainerFinished
    | FaultInjected
    | RolledBack
    | Progressed
    | DeadlineExpired
)
RequestEvent = (
    PauseRequested
    | ResumeRequested
    | StopRequested
    | CheckpointRequested
    | RestartRequested
    | RunDeleted
    | PolicyChanged
    | PolicyTrialEnded
    | InjectionRequested
)
HostEvent = DaemonStarted | LauncherAttached | LauncherLost
Event = TrainerEvent | RequestEvent | HostEvent | RunSubmitted | TimerFired
DerivedEvent = DecisionMade | RunStateChanged | EventIgnored
AnyEvent = Event | DerivedEvent
