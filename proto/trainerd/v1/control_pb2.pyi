import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from trainerd.v1 import checkpoint_pb2 as _checkpoint_pb2
from trainerd.v1 import event_pb2 as _event_pb2
from trainerd.v1 import fault_pb2 as _fault_pb2
from trainerd.v1 import incident_pb2 as _incident_pb2
from trainerd.v1 import inject_pb2 as _inject_pb2
from trainerd.v1 import link_pb2 as _link_pb2
from trainerd.v1 import run_pb2 as _run_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UpcomingKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPCOMING_KIND_UNSPECIFIED: _ClassVar[UpcomingKind]
    UPCOMING_KIND_RESTART: _ClassVar[UpcomingKind]
    UPCOMING_KIND_ATTACH: _ClassVar[UpcomingKind]
    UPCOMING_KIND_EXIT: _ClassVar[UpcomingKind]
    UPCOMING_KIND_STOP: _ClassVar[UpcomingKind]
    UPCOMING_KIND_REAP: _ClassVar[UpcomingKind]
    UPCOMING_KIND_MISSING: _ClassVar[UpcomingKind]
    UPCOMING_KIND_DEVICES: _ClassVar[UpcomingKind]
    UPCOMING_KIND_LAUNCHER: _ClassVar[UpcomingKind]
    UPCOMING_KIND_RESUME: _ClassVar[UpcomingKind]
    UPCOMING_KIND_HANG: _ClassVar[UpcomingKind]
    UPCOMING_KIND_CHECKPOINT: _ClassVar[UpcomingKind]
UPCOMING_KIND_UNSPECIFIED: UpcomingKind
UPCOMING_KIND_RESTART: UpcomingKind
UPCOMING_KIND_ATTACH: UpcomingKind
UPCOMING_KIND_EXIT: UpcomingKind
UPCOMING_KIND_STOP: UpcomingKind
UPCOMING_KIND_REAP: UpcomingKind
UPCOMING_KIND_MISSING: UpcomingKind
UPCOMING_KIND_DEVICES: UpcomingKind
UPCOMING_KIND_LAUNCHER: UpcomingKind
UPCOMING_KIND_RESUME: UpcomingKind
UPCOMING_KIND_HANG: UpcomingKind
UPCOMING_KIND_CHECKPOINT: UpcomingKind

class Problem(_message.Message):
    __slots__ = ("field", "message", "suggestion", "detail")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SUGGESTION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    field: str
    message: str
    suggestion: str
    detail: str
    def __init__(self, field: _Optional[str] = ..., message: _Optional[str] = ..., suggestion: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class GetDaemonRequest(_message.Message):
    __slots__ = ("protocol",)
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ...) -> None: ...

class GetDaemonResponse(_message.Message):
    __slots__ = ("protocol", "pid", "metrics_address", "launcher_pid", "uptime_s")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_PID_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    pid: int
    metrics_address: str
    launcher_pid: int
    uptime_s: float
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ..., pid: _Optional[int] = ..., metrics_address: _Optional[str] = ..., launcher_pid: _Optional[int] = ..., uptime_s: _Optional[float] = ...) -> None: ...

class CheckRunRequest(_message.Message):
    __slots__ = ("spec", "skip_program")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SKIP_PROGRAM_FIELD_NUMBER: _ClassVar[int]
    spec: _run_pb2.RunSpec
    skip_program: bool
    def __init__(self, spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ..., skip_program: _Optional[bool] = ...) -> None: ...

class CheckRunResponse(_message.Message):
    __slots__ = ("problems",)
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    def __init__(self, problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ...) -> None: ...

class SubmitRunRequest(_message.Message):
    __slots__ = ("spec", "request_id", "skip_program_check", "resume_run")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SKIP_PROGRAM_CHECK_FIELD_NUMBER: _ClassVar[int]
    RESUME_RUN_FIELD_NUMBER: _ClassVar[int]
    spec: _run_pb2.RunSpec
    request_id: str
    skip_program_check: bool
    resume_run: str
    def __init__(self, spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ..., request_id: _Optional[str] = ..., skip_program_check: _Optional[bool] = ..., resume_run: _Optional[str] = ...) -> None: ...

class SubmitRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[_run_pb2.Run]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[_run_pb2.Run, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteRunRequest(_message.Message):
    __slots__ = ("run", "no_wait")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NO_WAIT_FIELD_NUMBER: _ClassVar[int]
    run: str
    no_wait: bool
    def __init__(self, run: _Optional[str] = ..., no_wait: _Optional[bool] = ...) -> None: ...

class DeleteRunResponse(_message.Message):
    __slots__ = ("files_removed",)
    FILES_REMOVED_FIELD_NUMBER: _ClassVar[int]
    files_removed: bool
    def __init__(self, files_removed: _Optional[bool] = ...) -> None: ...

class PauseRunRequest(_message.Message):
    __slots__ = ("run", "no_wait")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NO_WAIT_FIELD_NUMBER: _ClassVar[int]
    run: str
    no_wait: bool
    def __init__(self, run: _Optional[str] = ..., no_wait: _Optional[bool] = ...) -> None: ...

class PauseRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class ResumeRunRequest(_message.Message):
    __slots__ = ("run", "no_wait")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NO_WAIT_FIELD_NUMBER: _ClassVar[int]
    run: str
    no_wait: bool
    def __init__(self, run: _Optional[str] = ..., no_wait: _Optional[bool] = ...) -> None: ...

class ResumeRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class StopRunRequest(_message.Message):
    __slots__ = ("run", "no_wait", "no_checkpoint")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NO_WAIT_FIELD_NUMBER: _ClassVar[int]
    NO_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    run: str
    no_wait: bool
    no_checkpoint: bool
    def __init__(self, run: _Optional[str] = ..., no_wait: _Optional[bool] = ..., no_checkpoint: _Optional[bool] = ...) -> None: ...

class StopRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class RestartRunRequest(_message.Message):
    __slots__ = ("run", "no_wait")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NO_WAIT_FIELD_NUMBER: _ClassVar[int]
    run: str
    no_wait: bool
    def __init__(self, run: _Optional[str] = ..., no_wait: _Optional[bool] = ...) -> None: ...

class RestartRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class CheckpointRunRequest(_message.Message):
    __slots__ = ("run", "no_wait")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NO_WAIT_FIELD_NUMBER: _ClassVar[int]
    run: str
    no_wait: bool
    def __init__(self, run: _Optional[str] = ..., no_wait: _Optional[bool] = ...) -> None: ...

class CheckpointRunResponse(_message.Message):
    __slots__ = ("run", "step", "path")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    step: int
    path: str
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ..., step: _Optional[int] = ..., path: _Optional[str] = ...) -> None: ...

class ListCheckpointsRequest(_message.Message):
    __slots__ = ("run", "page_size", "page_token")
    RUN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    run: str
    page_size: int
    page_token: str
    def __init__(self, run: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCheckpointsResponse(_message.Message):
    __slots__ = ("checkpoints", "next_page_token")
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    checkpoints: _containers.RepeatedCompositeFieldContainer[_checkpoint_pb2.StoredCheckpoint]
    next_page_token: str
    def __init__(self, checkpoints: _Optional[_Iterable[_Union[_checkpoint_pb2.StoredCheckpoint, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class VerifyCheckpointsRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class VerifyCheckpointsResponse(_message.Message):
    __slots__ = ("checkpoints",)
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    checkpoints: _containers.RepeatedCompositeFieldContainer[_checkpoint_pb2.StoredCheckpoint]
    def __init__(self, checkpoints: _Optional[_Iterable[_Union[_checkpoint_pb2.StoredCheckpoint, _Mapping]]] = ...) -> None: ...

class AdoptCheckpointRequest(_message.Message):
    __slots__ = ("run", "step")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    run: str
    step: int
    def __init__(self, run: _Optional[str] = ..., step: _Optional[int] = ...) -> None: ...

class AdoptCheckpointResponse(_message.Message):
    __slots__ = ("checkpoint",)
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: _checkpoint_pb2.StoredCheckpoint
    def __init__(self, checkpoint: _Optional[_Union[_checkpoint_pb2.StoredCheckpoint, _Mapping]] = ...) -> None: ...

class ExportCheckpointRequest(_message.Message):
    __slots__ = ("run", "step", "directory")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    run: str
    step: int
    directory: str
    def __init__(self, run: _Optional[str] = ..., step: _Optional[int] = ..., directory: _Optional[str] = ...) -> None: ...

class ExportCheckpointResponse(_message.Message):
    __slots__ = ("step", "path", "directory", "arrays", "parameters", "bytes")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    step: int
    path: str
    directory: str
    arrays: int
    parameters: int
    bytes: int
    def __init__(self, step: _Optional[int] = ..., path: _Optional[str] = ..., directory: _Optional[str] = ..., arrays: _Optional[int] = ..., parameters: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("run", "after_sequence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    run: str
    after_sequence: int
    def __init__(self, run: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class WatchRunResponse(_message.Message):
    __slots__ = ("run", "events", "dropped_events", "sequence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_EVENTS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    dropped_events: int
    sequence: int
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., dropped_events: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("run", "after_sequence", "follow")
    RUN_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    run: str
    after_sequence: int
    follow: bool
    def __init__(self, run: _Optional[str] = ..., after_sequence: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _event_pb2.Event
    def __init__(self, event: _Optional[_Union[_event_pb2.Event, _Mapping]] = ...) -> None: ...

class ReadRunLogRequest(_message.Message):
    __slots__ = ("run", "incarnation", "offset", "max_bytes", "host")
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    run: str
    incarnation: int
    offset: int
    max_bytes: int
    host: str
    def __init__(self, run: _Optional[str] = ..., incarnation: _Optional[int] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ..., host: _Optional[str] = ...) -> None: ...

class ReadRunLogResponse(_message.Message):
    __slots__ = ("data", "next_offset", "incarnation", "offset")
    DATA_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    next_offset: int
    incarnation: int
    offset: int
    def __init__(self, data: _Optional[bytes] = ..., next_offset: _Optional[int] = ..., incarnation: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class ListStepMetricsRequest(_message.Message):
    __slots__ = ("run", "after_step", "page_size", "page_token")
    RUN_FIELD_NUMBER: _ClassVar[int]
    AFTER_STEP_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    run: str
    after_step: int
    page_size: int
    page_token: str
    def __init__(self, run: _Optional[str] = ..., after_step: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListStepMetricsResponse(_message.Message):
    __slots__ = ("steps", "next_page_token", "names", "lost")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[_run_pb2.StepMetrics]
    next_page_token: str
    names: _containers.RepeatedScalarFieldContainer[str]
    lost: int
    def __init__(self, steps: _Optional[_Iterable[_Union[_run_pb2.StepMetrics, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., lost: _Optional[int] = ...) -> None: ...

class ProfileRunRequest(_message.Message):
    __slots__ = ("run", "steps", "directory", "no_wait")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    NO_WAIT_FIELD_NUMBER: _ClassVar[int]
    run: str
    steps: int
    directory: str
    no_wait: bool
    def __init__(self, run: _Optional[str] = ..., steps: _Optional[int] = ..., directory: _Optional[str] = ..., no_wait: _Optional[bool] = ...) -> None: ...

class ProfileRunResponse(_message.Message):
    __slots__ = ("run", "path", "step", "steps")
    RUN_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    path: str
    step: int
    steps: int
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ..., path: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class CollectRunStacksRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class CollectRunStacksResponse(_message.Message):
    __slots__ = ("run", "stacks")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STACKS_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    stacks: _run_pb2.ThreadStacks
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ..., stacks: _Optional[_Union[_run_pb2.ThreadStacks, _Mapping]] = ...) -> None: ...

class ExplainRunRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class ExplainRunResponse(_message.Message):
    __slots__ = ("run", "story", "budgets", "cycles", "max_cycles", "upcoming")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STORY_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    CYCLES_FIELD_NUMBER: _ClassVar[int]
    MAX_CYCLES_FIELD_NUMBER: _ClassVar[int]
    UPCOMING_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    story: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    budgets: _containers.RepeatedCompositeFieldContainer[BudgetUse]
    cycles: int
    max_cycles: int
    upcoming: _containers.RepeatedCompositeFieldContainer[Upcoming]
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ..., story: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., budgets: _Optional[_Iterable[_Union[BudgetUse, _Mapping]]] = ..., cycles: _Optional[int] = ..., max_cycles: _Optional[int] = ..., upcoming: _Optional[_Iterable[_Union[Upcoming, _Mapping]]] = ...) -> None: ...

class BudgetUse(_message.Message):
    __slots__ = ("used", "limit", "window_s", "in_a_row", "consecutive")
    CLASS_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    IN_A_ROW_FIELD_NUMBER: _ClassVar[int]
    CONSECUTIVE_FIELD_NUMBER: _ClassVar[int]
    used: int
    limit: int
    window_s: float
    in_a_row: int
    consecutive: int
    def __init__(self, used: _Optional[int] = ..., limit: _Optional[int] = ..., window_s: _Optional[float] = ..., in_a_row: _Optional[int] = ..., consecutive: _Optional[int] = ..., **kwargs) -> None: ...

class Upcoming(_message.Message):
    __slots__ = ("kind", "in_s", "run", "phase")
    KIND_FIELD_NUMBER: _ClassVar[int]
    IN_S_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    kind: UpcomingKind
    in_s: float
    run: str
    phase: _fault_pb2.Phase
    def __init__(self, kind: _Optional[_Union[UpcomingKind, str]] = ..., in_s: _Optional[float] = ..., run: _Optional[str] = ..., phase: _Optional[_Union[_fault_pb2.Phase, str]] = ...) -> None: ...

class ListIncidentsRequest(_message.Message):
    __slots__ = ("run", "page_size", "page_token")
    RUN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    run: str
    page_size: int
    page_token: str
    def __init__(self, run: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListIncidentsResponse(_message.Message):
    __slots__ = ("incidents", "next_page_token")
    INCIDENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    incidents: _containers.RepeatedCompositeFieldContainer[_incident_pb2.Incident]
    next_page_token: str
    def __init__(self, incidents: _Optional[_Iterable[_Union[_incident_pb2.Incident, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetIncidentRequest(_message.Message):
    __slots__ = ("run", "number")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    run: str
    number: int
    def __init__(self, run: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class GetIncidentResponse(_message.Message):
    __slots__ = ("incident", "evidence", "directory")
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    incident: _incident_pb2.Incident
    evidence: _incident_pb2.IncidentEvidence
    directory: str
    def __init__(self, incident: _Optional[_Union[_incident_pb2.Incident, _Mapping]] = ..., evidence: _Optional[_Union[_incident_pb2.IncidentEvidence, _Mapping]] = ..., directory: _Optional[str] = ...) -> None: ...

class ReplayRunIncidentRequest(_message.Message):
    __slots__ = ("run", "number", "cpu")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    run: str
    number: int
    cpu: bool
    def __init__(self, run: _Optional[str] = ..., number: _Optional[int] = ..., cpu: _Optional[bool] = ...) -> None: ...

class ReplayRunIncidentResponse(_message.Message):
    __slots__ = ("incident", "happened", "fault", "source", "first_step", "last_step")
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    HAPPENED_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    LAST_STEP_FIELD_NUMBER: _ClassVar[int]
    incident: _incident_pb2.Incident
    happened: bool
    fault: _fault_pb2.Fault
    source: str
    first_step: int
    last_step: int
    def __init__(self, incident: _Optional[_Union[_incident_pb2.Incident, _Mapping]] = ..., happened: _Optional[bool] = ..., fault: _Optional[_Union[_fault_pb2.Fault, _Mapping]] = ..., source: _Optional[str] = ..., first_step: _Optional[int] = ..., last_step: _Optional[int] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy", "version", "trial")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    policy: _fault_pb2.Policy
    version: int
    trial: _fault_pb2.Policy
    def __init__(self, policy: _Optional[_Union[_fault_pb2.Policy, _Mapping]] = ..., version: _Optional[int] = ..., trial: _Optional[_Union[_fault_pb2.Policy, _Mapping]] = ...) -> None: ...

class SetPolicyRequest(_message.Message):
    __slots__ = ("run", "policy", "dry_run", "end_dry_run")
    RUN_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    END_DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    policy: _fault_pb2.Policy
    dry_run: bool
    end_dry_run: bool
    def __init__(self, run: _Optional[str] = ..., policy: _Optional[_Union[_fault_pb2.Policy, _Mapping]] = ..., dry_run: _Optional[bool] = ..., end_dry_run: _Optional[bool] = ...) -> None: ...

class SetPolicyResponse(_message.Message):
    __slots__ = ("policy", "version", "trial")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    policy: _fault_pb2.Policy
    version: int
    trial: _fault_pb2.Policy
    def __init__(self, policy: _Optional[_Union[_fault_pb2.Policy, _Mapping]] = ..., version: _Optional[int] = ..., trial: _Optional[_Union[_fault_pb2.Policy, _Mapping]] = ...) -> None: ...

class SimulatePolicyRequest(_message.Message):
    __slots__ = ("run", "policy")
    RUN_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    run: str
    policy: _fault_pb2.Policy
    def __init__(self, run: _Optional[str] = ..., policy: _Optional[_Union[_fault_pb2.Policy, _Mapping]] = ...) -> None: ...

class SimulatePolicyResponse(_message.Message):
    __slots__ = ("decisions", "left_out")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[SimulatedDecision]
    left_out: int
    def __init__(self, decisions: _Optional[_Iterable[_Union[SimulatedDecision, _Mapping]]] = ..., left_out: _Optional[int] = ...) -> None: ...

class SimulatedDecision(_message.Message):
    __slots__ = ("sequence", "time", "fault", "decision", "simulated")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    fault: _fault_pb2.Fault
    decision: _fault_pb2.Decision
    simulated: _fault_pb2.Decision
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., fault: _Optional[_Union[_fault_pb2.Fault, _Mapping]] = ..., decision: _Optional[_Union[_fault_pb2.Decision, _Mapping]] = ..., simulated: _Optional[_Union[_fault_pb2.Decision, _Mapping]] = ...) -> None: ...

class InjectFaultRequest(_message.Message):
    __slots__ = ("run", "injection")
    RUN_FIELD_NUMBER: _ClassVar[int]
    INJECTION_FIELD_NUMBER: _ClassVar[int]
    run: str
    injection: _inject_pb2.Injection
    def __init__(self, run: _Optional[str] = ..., injection: _Optional[_Union[_inject_pb2.Injection, _Mapping]] = ...) -> None: ...

class InjectFaultResponse(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...
