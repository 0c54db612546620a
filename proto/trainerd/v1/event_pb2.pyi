import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from trainerd.v1 import fault_pb2 as _fault_pb2
from trainerd.v1 import inject_pb2 as _inject_pb2
from trainerd.v1 import run_pb2 as _run_pb2
from trainerd.v1 import timesheet_pb2 as _timesheet_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_COMPLETED: _ClassVar[FinishReason]
    FINISH_REASON_STOPPED: _ClassVar[FinishReason]
    FINISH_REASON_PREEMPTED: _ClassVar[FinishReason]
    FINISH_REASON_DECIDED: _ClassVar[FinishReason]
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_COMPLETED: FinishReason
FINISH_REASON_STOPPED: FinishReason
FINISH_REASON_PREEMPTED: FinishReason
FINISH_REASON_DECIDED: FinishReason

class Event(_message.Message):
    __slots__ = ("sequence", "time", "run", "incarnation", "host", "daemon_started", "launcher_attached", "launcher_lost", "daemon_ended", "journal_recovered", "files_removed", "host_joined", "host_lost", "host_drained", "host_undrained", "run_submitted", "pause_requested", "resume_requested", "stop_requested", "checkpoint_requested", "restart_requested", "run_deleted", "policy_changed", "policy_trial_ended", "injection_requested", "trainer_spawned", "trainer_spawn_failed", "trainer_attached", "trainer_detached", "trainer_exited", "phase_entered", "slots_fixed", "state_restored", "evaluated", "checkpoint_saved", "fault_raised", "trainer_paused", "trainer_resumed", "trainer_finished", "fault_injected", "rolled_back", "progressed", "first_loss_heard", "coordinator_started", "coordinator_failed", "timer_fired", "deadline_expired", "member_gone", "standby_prepared", "checkpoints_verified", "decision_made", "run_state_changed", "event_ignored", "profile_requested", "profiled")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    DAEMON_STARTED_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_ATTACHED_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_LOST_FIELD_NUMBER: _ClassVar[int]
    DAEMON_ENDED_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_RECOVERED_FIELD_NUMBER: _ClassVar[int]
    FILES_REMOVED_FIELD_NUMBER: _ClassVar[int]
    HOST_JOINED_FIELD_NUMBER: _ClassVar[int]
    HOST_LOST_FIELD_NUMBER: _ClassVar[int]
    HOST_DRAINED_FIELD_NUMBER: _ClassVar[int]
    HOST_UNDRAINED_FIELD_NUMBER: _ClassVar[int]
    RUN_SUBMITTED_FIELD_NUMBER: _ClassVar[int]
    PAUSE_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    RESUME_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    STOP_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    RESTART_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    RUN_DELETED_FIELD_NUMBER: _ClassVar[int]
    POLICY_CHANGED_FIELD_NUMBER: _ClassVar[int]
    POLICY_TRIAL_ENDED_FIELD_NUMBER: _ClassVar[int]
    INJECTION_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    TRAINER_SPAWNED_FIELD_NUMBER: _ClassVar[int]
    TRAINER_SPAWN_FAILED_FIELD_NUMBER: _ClassVar[int]
    TRAINER_ATTACHED_FIELD_NUMBER: _ClassVar[int]
    TRAINER_DETACHED_FIELD_NUMBER: _ClassVar[int]
    TRAINER_EXITED_FIELD_NUMBER: _ClassVar[int]
    PHASE_ENTERED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIXED_FIELD_NUMBER: _ClassVar[int]
    STATE_RESTORED_FIELD_NUMBER: _ClassVar[int]
    EVALUATED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_SAVED_FIELD_NUMBER: _ClassVar[int]
    FAULT_RAISED_FIELD_NUMBER: _ClassVar[int]
    TRAINER_PAUSED_FIELD_NUMBER: _ClassVar[int]
    TRAINER_RESUMED_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAULT_INJECTED_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_FIELD_NUMBER: _ClassVar[int]
    PROGRESSED_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOSS_HEARD_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_STARTED_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_FAILED_FIELD_NUMBER: _ClassVar[int]
    TIMER_FIRED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_EXPIRED_FIELD_NUMBER: _ClassVar[int]
    MEMBER_GONE_FIELD_NUMBER: _ClassVar[int]
    STANDBY_PREPARED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_VERIFIED_FIELD_NUMBER: _ClassVar[int]
    DECISION_MADE_FIELD_NUMBER: _ClassVar[int]
    RUN_STATE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    EVENT_IGNORED_FIELD_NUMBER: _ClassVar[int]
    PROFILE_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    PROFILED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    run: str
    incarnation: int
    host: str
    daemon_started: DaemonStarted
    launcher_attached: LauncherAttached
    launcher_lost: LauncherLost
    daemon_ended: DaemonEnded
    journal_recovered: JournalRecovered
    files_removed: FilesRemoved
    host_joined: HostJoined
    host_lost: HostLost
    host_drained: HostDrained
    host_undrained: HostUndrained
    run_submitted: RunSubmitted
    pause_requested: PauseRequested
    resume_requested: ResumeRequested
    stop_requested: StopRequested
    checkpoint_requested: CheckpointRequested
    restart_requested: RestartRequested
    run_deleted: RunDeleted
    policy_changed: PolicyChanged
    policy_trial_ended: PolicyTrialEnded
    injection_requested: InjectionRequested
    trainer_spawned: TrainerSpawned
    trainer_spawn_failed: TrainerSpawnFailed
    trainer_attached: TrainerAttached
    trainer_detached: TrainerDetached
    trainer_exited: TrainerExited
    phase_entered: PhaseEntered
    slots_fixed: SlotsFixed
    state_restored: StateRestored
    evaluated: Evaluated
    checkpoint_saved: CheckpointSaved
    fault_raised: FaultRaised
    trainer_paused: TrainerPaused
    trainer_resumed: TrainerResumed
    trainer_finished: TrainerFinished
    fault_injected: FaultInjected
    rolled_back: RolledBack
    progressed: Progressed
    first_loss_heard: FirstLossHeard
    coordinator_started: CoordinatorStarted
    coordinator_failed: CoordinatorFailed
    timer_fired: TimerFired
    deadline_expired: DeadlineExpired
    member_gone: MemberGone
    standby_prepared: StandbyPrepared
    checkpoints_verified: CheckpointsVerified
    decision_made: DecisionMade
    run_state_changed: RunStateChanged
    event_ignored: EventIgnored
    profile_requested: ProfileRequested
    profiled: Profiled
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., run: _Optional[str] = ..., incarnation: _Optional[int] = ..., host: _Optional[str] = ..., daemon_started: _Optional[_Union[DaemonStarted, _Mapping]] = ..., launcher_attached: _Optional[_Union[LauncherAttached, _Mapping]] = ..., launcher_lost: _Optional[_Union[LauncherLost, _Mapping]] = ..., daemon_ended: _Optional[_Union[DaemonEnded, _Mapping]] = ..., journal_recovered: _Optional[_Union[JournalRecovered, _Mapping]] = ..., files_removed: _Optional[_Union[FilesRemoved, _Mapping]] = ..., host_joined: _Optional[_Union[HostJoined, _Mapping]] = ..., host_lost: _Optional[_Union[HostLost, _Mapping]] = ..., host_drained: _Optional[_Union[HostDrained, _Mapping]] = ..., host_undrained: _Optional[_Union[HostUndrained, _Mapping]] = ..., run_submitted: _Optional[_Union[RunSubmitted, _Mapping]] = ..., pause_requested: _Optional[_Union[PauseRequested, _Mapping]] = ..., resume_requested: _Optional[_Union[ResumeRequested, _Mapping]] = ..., stop_requested: _Optional[_Union[StopRequested, _Mapping]] = ..., checkpoint_requested: _Optional[_Union[CheckpointRequested, _Mapping]] = ..., restart_requested: _Optional[_Union[RestartRequested, _Mapping]] = ..., run_deleted: _Optional[_Union[RunDeleted, _Mapping]] = ..., policy_changed: _Optional[_Union[PolicyChanged, _Mapping]] = ..., policy_trial_ended: _Optional[_Union[PolicyTrialEnded, _Mapping]] = ..., injection_requested: _Optional[_Union[InjectionRequested, _Mapping]] = ..., trainer_spawned: _Optional[_Union[TrainerSpawned, _Mapping]] = ..., trainer_spawn_failed: _Optional[_Union[TrainerSpawnFailed, _Mapping]] = ..., trainer_attached: _Optional[_Union[TrainerAttached, _Mapping]] = ..., trainer_detached: _Optional[_Union[TrainerDetached, _Mapping]] = ..., trainer_exited: _Optional[_Union[TrainerExited, _Mapping]] = ..., phase_entered: _Optional[_Union[PhaseEntered, _Mapping]] = ..., slots_fixed: _Optional[_Union[SlotsFixed, _Mapping]] = ..., state_restored: _Optional[_Union[StateRestored, _Mapping]] = ..., evaluated: _Optional[_Union[Evaluated, _Mapping]] = ..., checkpoint_saved: _Optional[_Union[CheckpointSaved, _Mapping]] = ..., fault_raised: _Optional[_Union[FaultRaised, _Mapping]] = ..., trainer_paused: _Optional[_Union[TrainerPaused, _Mapping]] = ..., trainer_resumed: _Optional[_Union[TrainerResumed, _Mapping]] = ..., trainer_finished: _Optional[_Union[TrainerFinished, _Mapping]] = ..., fault_injected: _Optional[_Union[FaultInjected, _Mapping]] = ..., rolled_back: _Optional[_Union[RolledBack, _Mapping]] = ..., progressed: _Optional[_Union[Progressed, _Mapping]] = ..., first_loss_heard: _Optional[_Union[FirstLossHeard, _Mapping]] = ..., coordinator_started: _Optional[_Union[CoordinatorStarted, _Mapping]] = ..., coordinator_failed: _Optional[_Union[CoordinatorFailed, _Mapping]] = ..., timer_fired: _Optional[_Union[TimerFired, _Mapping]] = ..., deadline_expired: _Optional[_Union[DeadlineExpired, _Mapping]] = ..., member_gone: _Optional[_Union[MemberGone, _Mapping]] = ..., standby_prepared: _Optional[_Union[StandbyPrepared, _Mapping]] = ..., checkpoints_verified: _Optional[_Union[CheckpointsVerified, _Mapping]] = ..., decision_made: _Optional[_Union[DecisionMade, _Mapping]] = ..., run_state_changed: _Optional[_Union[RunStateChanged, _Mapping]] = ..., event_ignored: _Optional[_Union[EventIgnored, _Mapping]] = ..., profile_requested: _Optional[_Union[ProfileRequested, _Mapping]] = ..., profiled: _Optional[_Union[Profiled, _Mapping]] = ...) -> None: ...

class DaemonStarted(_message.Message):
    __slots__ = ("version", "pid")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    version: str
    pid: int
    def __init__(self, version: _Optional[str] = ..., pid: _Optional[int] = ...) -> None: ...

class HostJoined(_message.Message):
    __slots__ = ("address", "software")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    address: str
    software: str
    def __init__(self, address: _Optional[str] = ..., software: _Optional[str] = ...) -> None: ...

class HostLost(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class HostDrained(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HostUndrained(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LiveTrainer(_message.Message):
    __slots__ = ("run", "incarnation", "pid")
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    run: str
    incarnation: int
    pid: int
    def __init__(self, run: _Optional[str] = ..., incarnation: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class LauncherAttached(_message.Message):
    __slots__ = ("instance", "pid", "trainers")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    TRAINERS_FIELD_NUMBER: _ClassVar[int]
    instance: str
    pid: int
    trainers: _containers.RepeatedCompositeFieldContainer[LiveTrainer]
    def __init__(self, instance: _Optional[str] = ..., pid: _Optional[int] = ..., trainers: _Optional[_Iterable[_Union[LiveTrainer, _Mapping]]] = ...) -> None: ...

class LauncherLost(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class DaemonEnded(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JournalRecovered(_message.Message):
    __slots__ = ("refused", "duration_s", "problem")
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    refused: int
    duration_s: float
    problem: str
    def __init__(self, refused: _Optional[int] = ..., duration_s: _Optional[float] = ..., problem: _Optional[str] = ...) -> None: ...

class FilesRemoved(_message.Message):
    __slots__ = ("memory_only",)
    MEMORY_ONLY_FIELD_NUMBER: _ClassVar[int]
    memory_only: bool
    def __init__(self, memory_only: _Optional[bool] = ...) -> None: ...

class RunSubmitted(_message.Message):
    __slots__ = ("spec", "request_id", "resumed_run", "restore_directories")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESUMED_RUN_FIELD_NUMBER: _ClassVar[int]
    RESTORE_DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    spec: _run_pb2.RunSpec
    request_id: str
    resumed_run: str
    restore_directories: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ..., request_id: _Optional[str] = ..., resumed_run: _Optional[str] = ..., restore_directories: _Optional[_Iterable[str]] = ...) -> None: ...

class PauseRequested(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRequested(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopRequested(_message.Message):
    __slots__ = ("save",)
    SAVE_FIELD_NUMBER: _ClassVar[int]
    save: bool
    def __init__(self, save: _Optional[bool] = ...) -> None: ...

class CheckpointRequested(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class RestartRequested(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RunDeleted(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class PolicyChanged(_message.Message):
    __slots__ = ("policy", "trial")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    policy: _fault_pb2.Policy
    trial: bool
    def __init__(self, policy: _Optional[_Union[_fault_pb2.Policy, _Mapping]] = ..., trial: _Optional[bool] = ...) -> None: ...

class PolicyTrialEnded(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InjectionRequested(_message.Message):
    __slots__ = ("injection",)
    INJECTION_FIELD_NUMBER: _ClassVar[int]
    injection: _inject_pb2.Injection
    def __init__(self, injection: _Optional[_Union[_inject_pb2.Injection, _Mapping]] = ...) -> None: ...

class ProfileRequested(_message.Message):
    __slots__ = ("request_id", "steps", "directory")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    steps: int
    directory: str
    def __init__(self, request_id: _Optional[str] = ..., steps: _Optional[int] = ..., directory: _Optional[str] = ...) -> None: ...

class Profiled(_message.Message):
    __slots__ = ("request_id", "step", "steps", "path", "problem")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    step: int
    steps: int
    path: str
    problem: str
    def __init__(self, request_id: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., path: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class TrainerSpawned(_message.Message):
    __slots__ = ("pid", "warm")
    PID_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    pid: int
    warm: bool
    def __init__(self, pid: _Optional[int] = ..., warm: _Optional[bool] = ...) -> None: ...

class TrainerSpawnFailed(_message.Message):
    __slots__ = ("message", "permanent", "devices_busy")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PERMANENT_FIELD_NUMBER: _ClassVar[int]
    DEVICES_BUSY_FIELD_NUMBER: _ClassVar[int]
    message: str
    permanent: bool
    devices_busy: bool
    def __init__(self, message: _Optional[str] = ..., permanent: _Optional[bool] = ..., devices_busy: _Optional[bool] = ...) -> None: ...

class TrainerAttached(_message.Message):
    __slots__ = ("phase", "step", "dropped_reports", "awaits", "times")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DROPPED_REPORTS_FIELD_NUMBER: _ClassVar[int]
    AWAITS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    phase: _fault_pb2.Phase
    step: int
    dropped_reports: int
    awaits: int
    times: _containers.RepeatedCompositeFieldContainer[_timesheet_pb2.ActivityTime]
    def __init__(self, phase: _Optional[_Union[_fault_pb2.Phase, str]] = ..., step: _Optional[int] = ..., dropped_reports: _Optional[int] = ..., awaits: _Optional[int] = ..., times: _Optional[_Iterable[_Union[_timesheet_pb2.ActivityTime, _Mapping]]] = ...) -> None: ...

class TrainerDetached(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class TrainerExited(_message.Message):
    __slots__ = ("exit_code", "signal", "killed_by_launcher", "log_tail", "stacks", "times", "drained")
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    KILLED_BY_LAUNCHER_FIELD_NUMBER: _ClassVar[int]
    LOG_TAIL_FIELD_NUMBER: _ClassVar[int]
    STACKS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    DRAINED_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    signal: int
    killed_by_launcher: bool
    log_tail: str
    stacks: str
    times: _containers.RepeatedCompositeFieldContainer[_timesheet_pb2.ActivityTime]
    drained: bool
    def __init__(self, exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., killed_by_launcher: _Optional[bool] = ..., log_tail: _Optional[str] = ..., stacks: _Optional[str] = ..., times: _Optional[_Iterable[_Union[_timesheet_pb2.ActivityTime, _Mapping]]] = ..., drained: _Optional[bool] = ...) -> None: ...

class PhaseEntered(_message.Message):
    __slots__ = ("phase", "step")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    phase: _fault_pb2.Phase
    step: int
    def __init__(self, phase: _Optional[_Union[_fault_pb2.Phase, str]] = ..., step: _Optional[int] = ...) -> None: ...

class SlotsFixed(_message.Message):
    __slots__ = ("slots",)
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    slots: int
    def __init__(self, slots: _Optional[int] = ...) -> None: ...

class StateRestored(_message.Message):
    __slots__ = ("step", "batch", "source")
    STEP_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    step: int
    batch: int
    source: str
    def __init__(self, step: _Optional[int] = ..., batch: _Optional[int] = ..., source: _Optional[str] = ...) -> None: ...

class Evaluated(_message.Message):
    __slots__ = ("evaluation",)
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    evaluation: _run_pb2.Evaluation
    def __init__(self, evaluation: _Optional[_Union[_run_pb2.Evaluation, _Mapping]] = ...) -> None: ...

class CheckpointSaved(_message.Message):
    __slots__ = ("step", "path", "bytes", "blocked_s", "duration_s", "request_ids", "fallback", "every_steps", "coalesced", "disk_bytes", "disk_free_bytes")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_S_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    COALESCED_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    step: int
    path: str
    bytes: int
    blocked_s: float
    duration_s: float
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    fallback: bool
    every_steps: int
    coalesced: int
    disk_bytes: int
    disk_free_bytes: int
    def __init__(self, step: _Optional[int] = ..., path: _Optional[str] = ..., bytes: _Optional[int] = ..., blocked_s: _Optional[float] = ..., duration_s: _Optional[float] = ..., request_ids: _Optional[_Iterable[str]] = ..., fallback: _Optional[bool] = ..., every_steps: _Optional[int] = ..., coalesced: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ...) -> None: ...

class FaultRaised(_message.Message):
    __slots__ = ("fault", "request_ids", "question")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    fault: _fault_pb2.Fault
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    question: int
    def __init__(self, fault: _Optional[_Union[_fault_pb2.Fault, _Mapping]] = ..., request_ids: _Optional[_Iterable[str]] = ..., question: _Optional[int] = ...) -> None: ...

class TrainerPaused(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class TrainerResumed(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class TrainerFinished(_message.Message):
    __slots__ = ("reason", "result", "durable")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    reason: FinishReason
    result: _run_pb2.RunResult
    durable: bool
    def __init__(self, reason: _Optional[_Union[FinishReason, str]] = ..., result: _Optional[_Union[_run_pb2.RunResult, _Mapping]] = ..., durable: _Optional[bool] = ...) -> None: ...

class FaultInjected(_message.Message):
    __slots__ = ("injection", "step", "batch", "fault")
    INJECTION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    injection: int
    step: int
    batch: int
    fault: _inject_pb2.InjectedFault
    def __init__(self, injection: _Optional[int] = ..., step: _Optional[int] = ..., batch: _Optional[int] = ..., fault: _Optional[_Union[_inject_pb2.InjectedFault, str]] = ...) -> None: ...

class RolledBack(_message.Message):
    __slots__ = ("from_step", "step", "first_batch", "last_batch", "source")
    FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FIRST_BATCH_FIELD_NUMBER: _ClassVar[int]
    LAST_BATCH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CLASS_FIELD_NUMBER: _ClassVar[int]
    from_step: int
    step: int
    first_batch: int
    last_batch: int
    source: str
    def __init__(self, from_step: _Optional[int] = ..., step: _Optional[int] = ..., first_batch: _Optional[int] = ..., last_batch: _Optional[int] = ..., source: _Optional[str] = ..., **kwargs) -> None: ...

class Progressed(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class FirstLossHeard(_message.Message):
    __slots__ = ("step", "loss")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    step: int
    loss: float
    def __init__(self, step: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...

class CoordinatorStarted(_message.Message):
    __slots__ = ("address", "pid")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    address: str
    pid: int
    def __init__(self, address: _Optional[str] = ..., pid: _Optional[int] = ...) -> None: ...

class CoordinatorFailed(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class MemberGone(_message.Message):
    __slots__ = ("waited_s", "deadline_s")
    WAITED_S_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    waited_s: float
    deadline_s: float
    def __init__(self, waited_s: _Optional[float] = ..., deadline_s: _Optional[float] = ...) -> None: ...

class StandbyPrepared(_message.Message):
    __slots__ = ("problem",)
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    problem: str
    def __init__(self, problem: _Optional[str] = ...) -> None: ...

class TimerFired(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class DeadlineExpired(_message.Message):
    __slots__ = ("phase", "deadline_s", "waited_s")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    WAITED_S_FIELD_NUMBER: _ClassVar[int]
    phase: _fault_pb2.Phase
    deadline_s: float
    waited_s: float
    def __init__(self, phase: _Optional[_Union[_fault_pb2.Phase, str]] = ..., deadline_s: _Optional[float] = ..., waited_s: _Optional[float] = ...) -> None: ...

class RejectedCheckpoint(_message.Message):
    __slots__ = ("step", "path", "reason", "problem")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    step: int
    path: str
    reason: str
    problem: str
    def __init__(self, step: _Optional[int] = ..., path: _Optional[str] = ..., reason: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class CheckpointsVerified(_message.Message):
    __slots__ = ("scrub", "sound", "rejected", "durable_step", "durable_path", "duration_s")
    SCRUB_FIELD_NUMBER: _ClassVar[int]
    SOUND_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    DURABLE_STEP_FIELD_NUMBER: _ClassVar[int]
    DURABLE_PATH_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    scrub: bool
    sound: int
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedCheckpoint]
    durable_step: int
    durable_path: str
    duration_s: float
    def __init__(self, scrub: _Optional[bool] = ..., sound: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[RejectedCheckpoint, _Mapping]]] = ..., durable_step: _Optional[int] = ..., durable_path: _Optional[str] = ..., duration_s: _Optional[float] = ...) -> None: ...

class DecisionMade(_message.Message):
    __slots__ = ("fault", "decision", "incident", "trial", "policy_version")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    fault: _fault_pb2.Fault
    decision: _fault_pb2.Decision
    incident: int
    trial: bool
    policy_version: int
    def __init__(self, fault: _Optional[_Union[_fault_pb2.Fault, _Mapping]] = ..., decision: _Optional[_Union[_fault_pb2.Decision, _Mapping]] = ..., incident: _Optional[int] = ..., trial: _Optional[bool] = ..., policy_version: _Optional[int] = ...) -> None: ...

class RunStateChanged(_message.Message):
    __slots__ = ("to", "reason")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    to: _run_pb2.RunState
    reason: str
    def __init__(self, to: _Optional[_Union[_run_pb2.RunState, str]] = ..., reason: _Optional[str] = ..., **kwargs) -> None: ...

class EventIgnored(_message.Message):
    __slots__ = ("kind", "reason")
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: str
    reason: str
    def __init__(self, kind: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
