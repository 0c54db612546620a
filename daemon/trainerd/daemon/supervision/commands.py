"""What the supervisor wants done: imperative, carried out in order after journalling."""

from __future__ import annotations

from dataclasses import dataclass

from trainerd.daemon.supervision.drills import Armed
from trainerd.daemon.supervision.events import DerivedEvent, FinishReason
from trainerd.daemon.supervision.faults import Decision, Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTrainer:
    """Ask the launcher for a process; answered by TrainerSpawned or TrainerSpawnFailed.

    `slot_parts`: parts that each slot is computed in; 0: one.
    """

    run: str
    incarnation: int
    slots: int
    slot_parts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KillTrainer:
    """SIGTERM, and SIGKILL after `grace_s` seconds; answered by TrainerExited.

    `collect_stacks`: it hangs, and its exit is to say where.
    """

    run: str
    incarnation: int
    grace_s: float
    collect_stacks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Hold at the next boundary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Save at the next boundary."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End at the next boundary."""

    save: bool
    reason: FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPolicy:
    """Train under this policy from the next step on. `message`: a serialised `v1.Policy`."""

    message: bytes
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """Make a fault happen."""

    armed: Armed


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeProfile:
    """Profile the next steps. `directory` empty: below the run's own."""

    request_id: str
    steps: int
    directory: str = ""


Order = Pause | Resume | Save | Stop | Decision | SetPolicy | Inject | TakeProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class TellTrainer:
    """Send an order over the trainer's link, if it is up; repeated after a re-attach."""

    run: str
    incarnation: int
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimer:
    """Answered by TimerFired(key) after `delay_s` seconds; replaces a timer of that key."""

    key: str
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTimer:
    """Forget the timer of that key, if any."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFiles:
    """Remove a deleted run's files on the host; answered by FilesRemoved, asked for until then.

    `memory_only`: the run is over and kept, what of it lies in memory is of no use.
    """

    run: str
    memory_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteIncident:
    """Keep what is known of a fault that changes the run's course; nobody waits for it."""

    run: str
    incarnation: int
    number: int
    fault: Fault
    decision: Decision
    stacks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Journal a derived event beside the one that caused it."""

    event: DerivedEvent


Command = (
    StartTrainer
    | KillTrainer
    | TellTrainer
    | StartTimer
    | CancelTimer
    | RemoveFiles
    | WriteIncident
    | Record
)
