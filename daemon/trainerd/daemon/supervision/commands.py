"""What the supervisor wants done: imperative, carried out in order after journalling."""

from __future__ import annotations

from dataclasses import dataclass

from trainerd.daemon.supervision.drills import Armed
from trainerd.daemon.supervision.events import DerivedEvent, FinishReason
from trainerd.daemon.supervision.faults import Decision, Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A process's place in a gang: its number, how many there are, where they meet (host:port)."""

    process: int
    processes: int
    rendezvous: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTrainer:
    """Ask a host's launcher for a process; answered by TrainerSpawned or TrainerSpawnFailed.

    `slot_parts`: parts that each slot is computed in; 0: one. `place` None: it trains alone.
    """

    run: str
    incarnation: int
    slots: int
    slot_parts: int = 0
    host: str = ""
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCoordinator:
    """Ask a host's launcher for the coordination service of a gang's incarnation.

    Answered by CoordinatorStarted or CoordinatorFailed.
    """

    run: str
    incarnation: int
    processes: int
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareStandby:
    """Ask a host's launcher for a standby of a run that may come there, beside `incarnation`.

    Answered by StandbyPrepared.
    """

    run: str
    incarnation: int
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopCoordinator:
    """End that service, if it lives; nobody waits for it."""

    run: str
    incarnation: int
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillTrainer:
    """SIGTERM, and SIGKILL after `grace_s` seconds; answered by TrainerExited.

    `collect_stacks`: it hangs, and its exit is to say where.
    """

    run: str
    incarnation: int
    grace_s: float
    collect_stacks: bool = False
    host: str = ""


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
    host: str = ""


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
    """Remove a deleted run's files on a host; answered by FilesRemoved, asked for until then.

    `memory_only`: the run is over and kept, what of it lies in memory is of no use.
    """

    run: str
    memory_only: bool = False
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteIncident:
    """Keep what is known of a fault that changes the run's course; nobody waits for it."""

    run: str
    incarnation: int
    number: int
    fault: Fault
    decision: Decision
    stacks: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Journal a derived event beside the one that caused it."""

    event: DerivedEvent


Command = (
    StartTrainer
    | StartCoordinator
    | StopCoordinator
    | PrepareStandby
    | KillTrainer
    | TellTrainer
    | StartTimer
    | CancelTimer
    | RemoveFiles
    | WriteIncident
    | Record
)
