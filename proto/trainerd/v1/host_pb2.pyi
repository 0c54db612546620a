from trainerd.v1 import launcher_pb2 as _launcher_pb2
from trainerd.v1 import link_pb2 as _link_pb2
from trainerd.v1 import trainer_pb2 as _trainer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("envelope", "hello", "reports")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    envelope: _link_pb2.Envelope
    hello: HostHello
    reports: HostReports
    def __init__(self, envelope: _Optional[_Union[_link_pb2.Envelope, _Mapping]] = ..., hello: _Optional[_Union[HostHello, _Mapping]] = ..., reports: _Optional[_Union[HostReports, _Mapping]] = ...) -> None: ...

class HostHello(_message.Message):
    __slots__ = ("protocol", "host", "pid", "instance")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    host: str
    pid: int
    instance: str
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ..., host: _Optional[str] = ..., pid: _Optional[int] = ..., instance: _Optional[str] = ...) -> None: ...

class HostReports(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[HostReport]
    def __init__(self, reports: _Optional[_Iterable[_Union[HostReport, _Mapping]]] = ...) -> None: ...

class HostReport(_message.Message):
    __slots__ = ("pulse", "launcher", "launcher_end", "answer", "trainer")
    PULSE_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_END_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FIELD_NUMBER: _ClassVar[int]
    pulse: Pulse
    launcher: _launcher_pb2.WatchTrainersResponse
    launcher_end: LinkEnd
    answer: LauncherAnswer
    trainer: TrainerReport
    def __init__(self, pulse: _Optional[_Union[Pulse, _Mapping]] = ..., launcher: _Optional[_Union[_launcher_pb2.WatchTrainersResponse, _Mapping]] = ..., launcher_end: _Optional[_Union[LinkEnd, _Mapping]] = ..., answer: _Optional[_Union[LauncherAnswer, _Mapping]] = ..., trainer: _Optional[_Union[TrainerReport, _Mapping]] = ...) -> None: ...

class Pulse(_message.Message):
    __slots__ = ("sent_ns", "clock_offset_s", "clock_error_s")
    SENT_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_S_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ERROR_S_FIELD_NUMBER: _ClassVar[int]
    sent_ns: int
    clock_offset_s: float
    clock_error_s: float
    def __init__(self, sent_ns: _Optional[int] = ..., clock_offset_s: _Optional[float] = ..., clock_error_s: _Optional[float] = ...) -> None: ...

class LinkEnd(_message.Message):
    __slots__ = ("code", "details", "reason")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    code: int
    details: str
    reason: str
    def __init__(self, code: _Optional[int] = ..., details: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class TrainerReport(_message.Message):
    __slots__ = ("stream", "request", "end")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    stream: int
    request: _trainer_pb2.AttachRequest
    end: LinkEnd
    def __init__(self, stream: _Optional[int] = ..., request: _Optional[_Union[_trainer_pb2.AttachRequest, _Mapping]] = ..., end: _Optional[_Union[LinkEnd, _Mapping]] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("envelope", "welcome", "orders")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    envelope: _link_pb2.Envelope
    welcome: HostWelcome
    orders: HostOrders
    def __init__(self, envelope: _Optional[_Union[_link_pb2.Envelope, _Mapping]] = ..., welcome: _Optional[_Union[HostWelcome, _Mapping]] = ..., orders: _Optional[_Union[HostOrders, _Mapping]] = ...) -> None: ...

class HostWelcome(_message.Message):
    __slots__ = ("protocol", "acknowledged_exit")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_EXIT_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    acknowledged_exit: int
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ..., acknowledged_exit: _Optional[int] = ...) -> None: ...

class HostOrders(_message.Message):
    __slots__ = ("orders",)
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    orders: _containers.RepeatedCompositeFieldContainer[HostOrder]
    def __init__(self, orders: _Optional[_Iterable[_Union[HostOrder, _Mapping]]] = ...) -> None: ...

class HostOrder(_message.Message):
    __slots__ = ("time", "call", "trainer")
    TIME_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FIELD_NUMBER: _ClassVar[int]
    time: PulseAnswer
    call: LauncherCall
    trainer: TrainerOrder
    def __init__(self, time: _Optional[_Union[PulseAnswer, _Mapping]] = ..., call: _Optional[_Union[LauncherCall, _Mapping]] = ..., trainer: _Optional[_Union[TrainerOrder, _Mapping]] = ...) -> None: ...

class PulseAnswer(_message.Message):
    __slots__ = ("sent_ns", "received_ns", "answered_ns")
    SENT_NS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_NS_FIELD_NUMBER: _ClassVar[int]
    sent_ns: int
    received_ns: int
    answered_ns: int
    def __init__(self, sent_ns: _Optional[int] = ..., received_ns: _Optional[int] = ..., answered_ns: _Optional[int] = ...) -> None: ...

class TrainerOrder(_message.Message):
    __slots__ = ("stream", "response", "end")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    stream: int
    response: _trainer_pb2.AttachResponse
    end: LinkEnd
    def __init__(self, stream: _Optional[int] = ..., response: _Optional[_Union[_trainer_pb2.AttachResponse, _Mapping]] = ..., end: _Optional[_Union[LinkEnd, _Mapping]] = ...) -> None: ...

class LauncherCall(_message.Message):
    __slots__ = ("call", "timeout_s", "start_trainer", "start_coordinator", "stop_coordinator", "kill_trainer", "check_program", "read_log", "write_incident", "read_incidents", "read_incident", "replay_incident", "read_checkpoints", "export_parameters", "remove_run", "read_step_metrics", "collect_stacks", "prepare_standby")
    CALL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    START_TRAINER_FIELD_NUMBER: _ClassVar[int]
    START_COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    STOP_COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    KILL_TRAINER_FIELD_NUMBER: _ClassVar[int]
    CHECK_PROGRAM_FIELD_NUMBER: _ClassVar[int]
    READ_LOG_FIELD_NUMBER: _ClassVar[int]
    WRITE_INCIDENT_FIELD_NUMBER: _ClassVar[int]
    READ_INCIDENTS_FIELD_NUMBER: _ClassVar[int]
    READ_INCIDENT_FIELD_NUMBER: _ClassVar[int]
    REPLAY_INCIDENT_FIELD_NUMBER: _ClassVar[int]
    READ_CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    EXPORT_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_RUN_FIELD_NUMBER: _ClassVar[int]
    READ_STEP_METRICS_FIELD_NUMBER: _ClassVar[int]
    COLLECT_STACKS_FIELD_NUMBER: _ClassVar[int]
    PREPARE_STANDBY_FIELD_NUMBER: _ClassVar[int]
    call: int
    timeout_s: float
    start_trainer: _launcher_pb2.StartTrainerRequest
    start_coordinator: _launcher_pb2.StartCoordinatorRequest
    stop_coordinator: _launcher_pb2.StopCoordinatorRequest
    kill_trainer: _launcher_pb2.KillTrainerRequest
    check_program: _launcher_pb2.CheckProgramRequest
    read_log: _launcher_pb2.ReadLogRequest
    write_incident: _launcher_pb2.WriteIncidentRequest
    read_incidents: _launcher_pb2.ReadIncidentsRequest
    read_incident: _launcher_pb2.ReadIncidentRequest
    replay_incident: _launcher_pb2.ReplayIncidentRequest
    read_checkpoints: _launcher_pb2.ReadCheckpointsRequest
    export_parameters: _launcher_pb2.ExportParametersRequest
    remove_run: _launcher_pb2.RemoveRunRequest
    read_step_metrics: _launcher_pb2.ReadStepMetricsRequest
    collect_stacks: _launcher_pb2.CollectStacksRequest
    prepare_standby: _launcher_pb2.PrepareStandbyRequest
    def __init__(self, call: _Optional[int] = ..., timeout_s: _Optional[float] = ..., start_trainer: _Optional[_Union[_launcher_pb2.StartTrainerRequest, _Mapping]] = ..., start_coordinator: _Optional[_Union[_launcher_pb2.StartCoordinatorRequest, _Mapping]] = ..., stop_coordinator: _Optional[_Union[_launcher_pb2.StopCoordinatorRequest, _Mapping]] = ..., kill_trainer: _Optional[_Union[_launcher_pb2.KillTrainerRequest, _Mapping]] = ..., check_program: _Optional[_Union[_launcher_pb2.CheckProgramRequest, _Mapping]] = ..., read_log: _Optional[_Union[_launcher_pb2.ReadLogRequest, _Mapping]] = ..., write_incident: _Optional[_Union[_launcher_pb2.WriteIncidentRequest, _Mapping]] = ..., read_incidents: _Optional[_Union[_launcher_pb2.ReadIncidentsRequest, _Mapping]] = ..., read_incident: _Optional[_Union[_launcher_pb2.ReadIncidentRequest, _Mapping]] = ..., replay_incident: _Optional[_Union[_launcher_pb2.ReplayIncidentRequest, _Mapping]] = ..., read_checkpoints: _Optional[_Union[_launcher_pb2.ReadCheckpointsRequest, _Mapping]] = ..., export_parameters: _Optional[_Union[_launcher_pb2.ExportParametersRequest, _Mapping]] = ..., remove_run: _Optional[_Union[_launcher_pb2.RemoveRunRequest, _Mapping]] = ..., read_step_metrics: _Optional[_Union[_launcher_pb2.ReadStepMetricsRequest, _Mapping]] = ..., collect_stacks: _Optional[_Union[_launcher_pb2.CollectStacksRequest, _Mapping]] = ..., prepare_standby: _Optional[_Union[_launcher_pb2.PrepareStandbyRequest, _Mapping]] = ...) -> None: ...

class LauncherAnswer(_message.Message):
    __slots__ = ("call", "failed", "response")
    CALL_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    call: int
    failed: LinkEnd
    response: bytes
    def __init__(self, call: _Optional[int] = ..., failed: _Optional[_Union[LinkEnd, _Mapping]] = ..., response: _Optional[bytes] = ...) -> None: ...
