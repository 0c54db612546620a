"""What a trainer reports of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainerd.daemon.supervision.drills import InjectedFault
from trainerd.daemon.supervision.events.states import FinishReason
from trainerd.daemon.supervision.faults import Fault, Phase
from trainerd.daemon.supervision.policy import FaultClass


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
class FirstLossHeard:
    """The first loss of a run was heard, after `step` applied updates."""

    run: str
    incarnation: int
    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """A profile of `steps` steps from `step` on is in `path`, or `problem` says why it is not."""

    run: str
    incarnation: int
    request_id: str
    step: int = 0
    steps: int = 0
    path: str = ""
    problem: str = ""
