"""Everything that can happen to the supervisor: past-tense facts, one dataclass each.

Events about a trainer carry the incarnation they speak of; late news of a past one is a no-op.
`trainerd.v1.Event` holds a message of the same name and fields for each.
"""

from __future__ import annotations

from trainerd.daemon.supervision.events.derived import DecisionMade, EventIgnored, RunStateChanged
from trainerd.daemon.supervision.events.host import (
    DaemonEnded,
    DaemonStarted,
    FilesRemoved,
    HostJoined,
    HostLost,
    JournalRecovered,
    LauncherAttached,
    LauncherLost,
    LiveTrainer,
    StandbyPrepared,
)
from trainerd.daemon.supervision.events.processes import (
    CoordinatorFailed,
    CoordinatorStarted,
    DeadlineExpired,
    MemberGone,
    TimerFired,
    TrainerAttached,
    TrainerDetached,
    TrainerExited,
    TrainerSpawned,
    TrainerSpawnFailed,
)
from trainerd.daemon.supervision.events.requests import (
    CheckpointRequested,
    HostDrained,
    HostUndrained,
    InjectionRequested,
    PauseRequested,
    PolicyChanged,
    PolicyTrialEnded,
    ProfileRequested,
    RestartRequested,
    ResumeRequested,
    RunDeleted,
    RunSubmitted,
    StopRequested,
)
from trainerd.daemon.supervision.events.states import FinishReason, RunState
from trainerd.daemon.supervision.events.training import (
    CheckpointSaved,
    Evaluated,
    Evaluation,
    FaultInjected,
    FaultRaised,
    FirstLossHeard,
    PhaseEntered,
    Profiled,
    Progressed,
    RolledBack,
    RunResult,
    SlotsFixed,
    StateRestored,
    TrainerFinished,
    TrainerPaused,
    TrainerResumed,
)
from trainerd.daemon.supervision.events.verification import (
    CheckpointsVerified,
    RejectedCheckpoint,
)

__all__ = [
    "AnyEvent",
    "CheckpointRequested",
    "CheckpointSaved",
    "CheckpointsVerified",
    "CoordinatorFailed",
    "CoordinatorStarted",
    "DaemonEnded",
    "DaemonStarted",
    "DeadlineExpired",
    "DecisionMade",
    "DerivedEvent",
    "Evaluated",
    "Evaluation",
    "Event",
    "EventIgnored",
    "FaultInjected",
    "FaultRaised",
    "FilesRemoved",
    "FinishReason",
    "FirstLossHeard",
    "HostDrained",
    "HostEvent",
    "HostJoined",
    "HostLost",
    "HostUndrained",
    "InjectionRequested",
    "JournalRecovered",
    "LauncherAttached",
    "LauncherLost",
    "LiveTrainer",
    "MemberGone",
    "PauseRequested",
    "PhaseEntered",
    "PolicyChanged",
    "PolicyTrialEnded",
    "ProfileRequested",
    "Profiled",
    "Progressed",
    "RejectedCheckpoint",
    "RequestEvent",
    "RestartRequested",
    "ResumeRequested",
    "RolledBack",
    "RunDeleted",
    "RunResult",
    "RunState",
    "RunStateChanged",
    "RunSubmitted",
    "SlotsFixed",
    "StandbyPrepared",
    "StateRestored",
    "StopRequested",
    "TimerFired",
    "TrainerAttached",
    "TrainerDetached",
    "TrainerEvent",
    "TrainerExited",
    "TrainerFinished",
    "TrainerPaused",
    "TrainerResumed",
    "TrainerSpawnFailed",
    "TrainerSpawned",
]

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
    | FirstLossHeard
    | Profiled
    | DeadlineExpired
    | CoordinatorStarted
    | CoordinatorFailed
    | MemberGone
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
    | ProfileRequested
)
HostEvent = (
    DaemonStarted
    | DaemonEnded
    | JournalRecovered
    | LauncherAttached
    | LauncherLost
    | FilesRemoved
    | StandbyPrepared
    | HostJoined
    | HostLost
    | HostDrained
    | HostUndrained
)
Event = TrainerEvent | RequestEvent | HostEvent | RunSubmitted | TimerFired | CheckpointsVerified
DerivedEvent = DecisionMade | RunStateChanged | EventIgnored
AnyEvent = Event | DerivedEvent
