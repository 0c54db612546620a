from trainerd.v1 import event_pb2 as _event_pb2
from trainerd.v1 import fault_pb2 as _fault_pb2
from trainerd.v1 import inject_pb2 as _inject_pb2
from trainerd.v1 import link_pb2 as _link_pb2
from trainerd.v1 import timesheet_pb2 as _timesheet_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttachRequest(_message.Message):
    __slots__ = ("envelope", "hello", "step_report", "heartbeat", "event")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    STEP_REPORT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    envelope: _link_pb2.Envelope
    hello: TrainerHello
    step_report: StepReport
    heartbeat: Heartbeat
    event: _event_pb2.Event
    def __init__(self, envelope: _Optional[_Union[_link_pb2.Envelope, _Mapping]] = ..., hello: _Optional[_Union[TrainerHello, _Mapping]] = ..., step_report: _Optional[_Union[StepReport, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., event: _Optional[_Union[_event_pb2.Event, _Mapping]] = ...) -> None: ...

class TrainerHello(_message.Message):
    __slots__ = ("protocol", "token", "phase", "step", "pid", "dropped_reports", "versions", "awaits", "times")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    DROPPED_REPORTS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    AWAITS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    token: str
    phase: _fault_pb2.Phase
    step: int
    pid: int
    dropped_reports: int
    versions: _containers.ScalarMap[str, str]
    awaits: int
    times: _containers.RepeatedCompositeFieldContainer[_timesheet_pb2.ActivityTime]
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ..., token: _Optional[str] = ..., phase: _Optional[_Union[_fault_pb2.Phase, str]] = ..., step: _Optional[int] = ..., pid: _Optional[int] = ..., dropped_reports: _Optional[int] = ..., versions: _Optional[_Mapping[str, str]] = ..., awaits: _Optional[int] = ..., times: _Optional[_Iterable[_Union[_timesheet_pb2.ActivityTime, _Mapping]]] = ...) -> None: ...

class StepReport(_message.Message):
    __slots__ = ("step", "batch", "loss", "gradient_norm", "metrics", "durations_s", "examples", "skipped_batches", "masked_slots", "data_wait_s", "hyperparameters", "snapshot_step", "snapshot_every", "times")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class HyperparametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_NORM_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    DURATIONS_S_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_BATCHES_FIELD_NUMBER: _ClassVar[int]
    MASKED_SLOTS_FIELD_NUMBER: _ClassVar[int]
    DATA_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_STEP_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_EVERY_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    step: int
    batch: int
    loss: float
    gradient_norm: float
    metrics: _containers.ScalarMap[str, float]
    durations_s: _containers.RepeatedScalarFieldContainer[float]
    examples: int
    skipped_batches: int
    masked_slots: int
    data_wait_s: float
    hyperparameters: _containers.ScalarMap[str, float]
    snapshot_step: int
    snapshot_every: int
    times: _containers.RepeatedCompositeFieldContainer[_timesheet_pb2.ActivityTime]
    def __init__(self, step: _Optional[int] = ..., batch: _Optional[int] = ..., loss: _Optional[float] = ..., gradient_norm: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., durations_s: _Optional[_Iterable[float]] = ..., examples: _Optional[int] = ..., skipped_batches: _Optional[int] = ..., masked_slots: _Optional[int] = ..., data_wait_s: _Optional[float] = ..., hyperparameters: _Optional[_Mapping[str, float]] = ..., snapshot_step: _Optional[int] = ..., snapshot_every: _Optional[int] = ..., times: _Optional[_Iterable[_Union[_timesheet_pb2.ActivityTime, _Mapping]]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("phase", "step", "resident_bytes", "device_bytes", "times")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    phase: _fault_pb2.Phase
    step: int
    resident_bytes: int
    device_bytes: int
    times: _containers.RepeatedCompositeFieldContainer[_timesheet_pb2.ActivityTime]
    def __init__(self, phase: _Optional[_Union[_fault_pb2.Phase, str]] = ..., step: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., device_bytes: _Optional[int] = ..., times: _Optional[_Iterable[_Union[_timesheet_pb2.ActivityTime, _Mapping]]] = ...) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("envelope", "welcome", "acknowledged", "pause", "resume", "save_checkpoint", "stop", "decision", "set_policy", "inject", "profile")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    SAVE_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    SET_POLICY_FIELD_NUMBER: _ClassVar[int]
    INJECT_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    envelope: _link_pb2.Envelope
    welcome: TrainerWelcome
    acknowledged: Acknowledged
    pause: PauseTrainer
    resume: ResumeTrainer
    save_checkpoint: SaveCheckpoint
    stop: StopTrainer
    decision: _fault_pb2.Decision
    set_policy: SetPolicy
    inject: _inject_pb2.ArmedInjection
    profile: ProfileTrainer
    def __init__(self, envelope: _Optional[_Union[_link_pb2.Envelope, _Mapping]] = ..., welcome: _Optional[_Union[TrainerWelcome, _Mapping]] = ..., acknowledged: _Optional[_Union[Acknowledged, _Mapping]] = ..., pause: _Optional[_Union[PauseTrainer, _Mapping]] = ..., resume: _Optional[_Union[ResumeTrainer, _Mapping]] = ..., save_checkpoint: _Optional[_Union[SaveCheckpoint, _Mapping]] = ..., stop: _Optional[_Union[StopTrainer, _Mapping]] = ..., decision: _Optional[_Union[_fault_pb2.Decision, _Mapping]] = ..., set_policy: _Optional[_Union[SetPolicy, _Mapping]] = ..., inject: _Optional[_Union[_inject_pb2.ArmedInjection, _Mapping]] = ..., profile: _Optional[_Union[ProfileTrainer, _Mapping]] = ...) -> None: ...

class TrainerWelcome(_message.Message):
    __slots__ = ("protocol", "acknowledged_sequence")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    acknowledged_sequence: int
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ..., acknowledged_sequence: _Optional[int] = ...) -> None: ...

class Acknowledged(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class PauseTrainer(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeTrainer(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SaveCheckpoint(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ProfileTrainer(_message.Message):
    __slots__ = ("request_id", "steps", "directory")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    steps: int
    directory: str
    def __init__(self, request_id: _Optional[str] = ..., steps: _Optional[int] = ..., directory: _Optional[str] = ...) -> None: ...

class SetPolicy(_message.Message):
    __slots__ = ("policy", "version")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    policy: _fault_pb2.Policy
    version: int
    def __init__(self, policy: _Optional[_Union[_fault_pb2.Policy, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class StopTrainer(_message.Message):
    __slots__ = ("save", "reason")
    SAVE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    save: bool
    reason: _event_pb2.FinishReason
    def __init__(self, save: _Optional[bool] = ..., reason: _Optional[_Union[_event_pb2.FinishReason, str]] = ...) -> None: ...
