from trainerd.v1 import checkpoint_pb2 as _checkpoint_pb2
from trainerd.v1 import control_pb2 as _control_pb2
from trainerd.v1 import event_pb2 as _event_pb2
from trainerd.v1 import fault_pb2 as _fault_pb2
from trainerd.v1 import incident_pb2 as _incident_pb2
from trainerd.v1 import inject_pb2 as _inject_pb2
from trainerd.v1 import link_pb2 as _link_pb2
from trainerd.v1 import run_pb2 as _run_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchTrainersRequest(_message.Message):
    __slots__ = ("protocol", "after_sequence")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    after_sequence: int
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class ExitRecord(_message.Message):
    __slots__ = ("sequence", "run", "incarnation", "exited")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EXITED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    run: str
    incarnation: int
    exited: _event_pb2.TrainerExited
    def __init__(self, sequence: _Optional[int] = ..., run: _Optional[str] = ..., incarnation: _Optional[int] = ..., exited: _Optional[_Union[_event_pb2.TrainerExited, _Mapping]] = ...) -> None: ...

class WatchTrainersResponse(_message.Message):
    __slots__ = ("hello", "exit")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    EXIT_FIELD_NUMBER: _ClassVar[int]
    hello: LauncherHello
    exit: ExitRecord
    def __init__(self, hello: _Optional[_Union[LauncherHello, _Mapping]] = ..., exit: _Optional[_Union[ExitRecord, _Mapping]] = ...) -> None: ...

class LauncherHello(_message.Message):
    __slots__ = ("protocol", "instance", "pid", "trainers", "devices")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    TRAINERS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    instance: str
    pid: int
    trainers: _containers.RepeatedCompositeFieldContainer[_event_pb2.LiveTrainer]
    devices: str
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ..., instance: _Optional[str] = ..., pid: _Optional[int] = ..., trainers: _Optional[_Iterable[_Union[_event_pb2.LiveTrainer, _Mapping]]] = ..., devices: _Optional[str] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("run", "incarnation", "spec", "slots", "attach_address", "token", "run_directory", "checkpoint_directory", "restore_directories", "launcher_pid", "orphan_grace_s", "ledger", "host", "policy_version", "slot_parts", "injections", "snapshot_directory", "snapshot_bytes", "executable_directory", "mean_time_between_crashes_s", "known_checkpoint", "known_step", "reached_step", "gang")
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    ATTACH_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    RUN_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    RESTORE_DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_PID_FIELD_NUMBER: _ClassVar[int]
    ORPHAN_GRACE_S_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    SLOT_PARTS_FIELD_NUMBER: _ClassVar[int]
    INJECTIONS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    MEAN_TIME_BETWEEN_CRASHES_S_FIELD_NUMBER: _ClassVar[int]
    KNOWN_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    KNOWN_STEP_FIELD_NUMBER: _ClassVar[int]
    REACHED_STEP_FIELD_NUMBER: _ClassVar[int]
    GANG_FIELD_NUMBER: _ClassVar[int]
    run: str
    incarnation: int
    spec: _run_pb2.RunSpec
    slots: int
    attach_address: str
    token: str
    run_directory: str
    checkpoint_directory: str
    restore_directories: _containers.RepeatedScalarFieldContainer[str]
    launcher_pid: int
    orphan_grace_s: float
    ledger: _containers.RepeatedCompositeFieldContainer[_incident_pb2.LedgerEntry]
    host: str
    policy_version: int
    slot_parts: int
    injections: _containers.RepeatedCompositeFieldContainer[_inject_pb2.ArmedInjection]
    snapshot_directory: str
    snapshot_bytes: int
    executable_directory: str
    mean_time_between_crashes_s: float
    known_checkpoint: str
    known_step: int
    reached_step: int
    gang: Gang
    def __init__(self, run: _Optional[str] = ..., incarnation: _Optional[int] = ..., spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ..., slots: _Optional[int] = ..., attach_address: _Optional[str] = ..., token: _Optional[str] = ..., run_directory: _Optional[str] = ..., checkpoint_directory: _Optional[str] = ..., restore_directories: _Optional[_Iterable[str]] = ..., launcher_pid: _Optional[int] = ..., orphan_grace_s: _Optional[float] = ..., ledger: _Optional[_Iterable[_Union[_incident_pb2.LedgerEntry, _Mapping]]] = ..., host: _Optional[str] = ..., policy_version: _Optional[int] = ..., slot_parts: _Optional[int] = ..., injections: _Optional[_Iterable[_Union[_inject_pb2.ArmedInjection, _Mapping]]] = ..., snapshot_directory: _Optional[str] = ..., snapshot_bytes: _Optional[int] = ..., executable_directory: _Optional[str] = ..., mean_time_between_crashes_s: _Optional[float] = ..., known_checkpoint: _Optional[str] = ..., known_step: _Optional[int] = ..., reached_step: _Optional[int] = ..., gang: _Optional[_Union[Gang, _Mapping]] = ...) -> None: ...

class Gang(_message.Message):
    __slots__ = ("coordinator_address", "process_id", "process_count", "collective_timeout_s", "barrier_timeout_s", "own_address")
    COORDINATOR_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_COUNT_FIELD_NUMBER: _ClassVar[int]
    COLLECTIVE_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    BARRIER_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    OWN_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    coordinator_address: str
    process_id: int
    process_count: int
    collective_timeout_s: float
    barrier_timeout_s: float
    own_address: str
    def __init__(self, coordinator_address: _Optional[str] = ..., process_id: _Optional[int] = ..., process_count: _Optional[int] = ..., collective_timeout_s: _Optional[float] = ..., barrier_timeout_s: _Optional[float] = ..., own_address: _Optional[str] = ...) -> None: ...

class StartTrainerRequest(_message.Message):
    __slots__ = ("assignment",)
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    assignment: Assignment
    def __init__(self, assignment: _Optional[_Union[Assignment, _Mapping]] = ...) -> None: ...

class StartTrainerResponse(_message.Message):
    __slots__ = ("pid", "warm")
    PID_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    pid: int
    warm: bool
    def __init__(self, pid: _Optional[int] = ..., warm: _Optional[bool] = ...) -> None: ...

class PrepareStandbyRequest(_message.Message):
    __slots__ = ("run", "spec")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    run: str
    spec: _run_pb2.RunSpec
    def __init__(self, run: _Optional[str] = ..., spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ...) -> None: ...

class PrepareStandbyResponse(_message.Message):
    __slots__ = ("problem",)
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    problem: str
    def __init__(self, problem: _Optional[str] = ...) -> None: ...

class StartCoordinatorRequest(_message.Message):
    __slots__ = ("run", "incarnation", "process_count")
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PROCESS_COUNT_FIELD_NUMBER: _ClassVar[int]
    run: str
    incarnation: int
    process_count: int
    def __init__(self, run: _Optional[str] = ..., incarnation: _Optional[int] = ..., process_count: _Optional[int] = ...) -> None: ...

class StartCoordinatorResponse(_message.Message):
    __slots__ = ("address", "pid")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    address: str
    pid: int
    def __init__(self, address: _Optional[str] = ..., pid: _Optional[int] = ...) -> None: ...

class StopCoordinatorRequest(_message.Message):
    __slots__ = ("run", "incarnation")
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    run: str
    incarnation: int
    def __init__(self, run: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class StopCoordinatorResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class KillTrainerRequest(_message.Message):
    __slots__ = ("run", "incarnation", "grace_s", "collect_stacks")
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    COLLECT_STACKS_FIELD_NUMBER: _ClassVar[int]
    run: str
    incarnation: int
    grace_s: float
    collect_stacks: bool
    def __init__(self, run: _Optional[str] = ..., incarnation: _Optional[int] = ..., grace_s: _Optional[float] = ..., collect_stacks: _Optional[bool] = ...) -> None: ...

class KillTrainerResponse(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: bool
    def __init__(self, found: _Optional[bool] = ...) -> None: ...

class CheckProgramRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: _run_pb2.RunSpec
    def __init__(self, spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ...) -> None: ...

class CheckProgramResponse(_message.Message):
    __slots__ = ("problems",)
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    problems: _containers.RepeatedCompositeFieldContainer[_control_pb2.Problem]
    def __init__(self, problems: _Optional[_Iterable[_Union[_control_pb2.Problem, _Mapping]]] = ...) -> None: ...

class ReadLogRequest(_message.Message):
    __slots__ = ("run", "incarnation", "offset", "max_bytes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    run: str
    incarnation: int
    offset: int
    max_bytes: int
    def __init__(self, run: _Optional[str] = ..., incarnation: _Optional[int] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class ReadLogResponse(_message.Message):
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

class ReadStepMetricsRequest(_message.Message):
    __slots__ = ("run", "after_step", "limit")
    RUN_FIELD_NUMBER: _ClassVar[int]
    AFTER_STEP_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    run: str
    after_step: int
    limit: int
    def __init__(self, run: _Optional[str] = ..., after_step: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ReadStepMetricsResponse(_message.Message):
    __slots__ = ("steps", "more", "names", "lost")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[_run_pb2.StepMetrics]
    more: bool
    names: _containers.RepeatedScalarFieldContainer[str]
    lost: int
    def __init__(self, steps: _Optional[_Iterable[_Union[_run_pb2.StepMetrics, _Mapping]]] = ..., more: _Optional[bool] = ..., names: _Optional[_Iterable[str]] = ..., lost: _Optional[int] = ...) -> None: ...

class CollectStacksRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class CollectStacksResponse(_message.Message):
    __slots__ = ("stacks",)
    STACKS_FIELD_NUMBER: _ClassVar[int]
    stacks: _run_pb2.ThreadStacks
    def __init__(self, stacks: _Optional[_Union[_run_pb2.ThreadStacks, _Mapping]] = ...) -> None: ...

class RemoveRunRequest(_message.Message):
    __slots__ = ("run", "memory_only")
    RUN_FIELD_NUMBER: _ClassVar[int]
    MEMORY_ONLY_FIELD_NUMBER: _ClassVar[int]
    run: str
    memory_only: bool
    def __init__(self, run: _Optional[str] = ..., memory_only: _Optional[bool] = ...) -> None: ...

class RemoveRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WriteIncidentRequest(_message.Message):
    __slots__ = ("incident", "evidence")
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    incident: _incident_pb2.Incident
    evidence: _incident_pb2.IncidentEvidence
    def __init__(self, incident: _Optional[_Union[_incident_pb2.Incident, _Mapping]] = ..., evidence: _Optional[_Union[_incident_pb2.IncidentEvidence, _Mapping]] = ...) -> None: ...

class WriteIncidentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadIncidentsRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class ReadIncidentsResponse(_message.Message):
    __slots__ = ("incidents",)
    INCIDENTS_FIELD_NUMBER: _ClassVar[int]
    incidents: _containers.RepeatedCompositeFieldContainer[_incident_pb2.Incident]
    def __init__(self, incidents: _Optional[_Iterable[_Union[_incident_pb2.Incident, _Mapping]]] = ...) -> None: ...

class ReadIncidentRequest(_message.Message):
    __slots__ = ("run", "number")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    run: str
    number: int
    def __init__(self, run: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class ReadIncidentResponse(_message.Message):
    __slots__ = ("incident", "evidence", "directory")
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    incident: _incident_pb2.Incident
    evidence: _incident_pb2.IncidentEvidence
    directory: str
    def __init__(self, incident: _Optional[_Union[_incident_pb2.Incident, _Mapping]] = ..., evidence: _Optional[_Union[_incident_pb2.IncidentEvidence, _Mapping]] = ..., directory: _Optional[str] = ...) -> None: ...

class ReplayIncidentRequest(_message.Message):
    __slots__ = ("run", "number", "spec", "cpu", "restore_directories")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    RESTORE_DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    run: str
    number: int
    spec: _run_pb2.RunSpec
    cpu: bool
    restore_directories: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[str] = ..., number: _Optional[int] = ..., spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ..., cpu: _Optional[bool] = ..., restore_directories: _Optional[_Iterable[str]] = ...) -> None: ...

class ReplayIncidentResponse(_message.Message):
    __slots__ = ("number", "happened", "fault", "source", "first_step", "last_step", "batch")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HAPPENED_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    LAST_STEP_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    number: int
    happened: bool
    fault: _fault_pb2.Fault
    source: str
    first_step: int
    last_step: int
    batch: int
    def __init__(self, number: _Optional[int] = ..., happened: _Optional[bool] = ..., fault: _Optional[_Union[_fault_pb2.Fault, _Mapping]] = ..., source: _Optional[str] = ..., first_step: _Optional[int] = ..., last_step: _Optional[int] = ..., batch: _Optional[int] = ...) -> None: ...

class ReadCheckpointsRequest(_message.Message):
    __slots__ = ("run", "checkpoint", "verify", "directories", "adopt_step")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    VERIFY_FIELD_NUMBER: _ClassVar[int]
    DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    ADOPT_STEP_FIELD_NUMBER: _ClassVar[int]
    run: str
    checkpoint: _run_pb2.CheckpointSpec
    verify: bool
    directories: _containers.RepeatedScalarFieldContainer[str]
    adopt_step: int
    def __init__(self, run: _Optional[str] = ..., checkpoint: _Optional[_Union[_run_pb2.CheckpointSpec, _Mapping]] = ..., verify: _Optional[bool] = ..., directories: _Optional[_Iterable[str]] = ..., adopt_step: _Optional[int] = ...) -> None: ...

class ReadCheckpointsResponse(_message.Message):
    __slots__ = ("checkpoints", "problem")
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    checkpoints: _containers.RepeatedCompositeFieldContainer[_checkpoint_pb2.StoredCheckpoint]
    problem: str
    def __init__(self, checkpoints: _Optional[_Iterable[_Union[_checkpoint_pb2.StoredCheckpoint, _Mapping]]] = ..., problem: _Optional[str] = ...) -> None: ...

class ExportParametersRequest(_message.Message):
    __slots__ = ("run", "spec", "step", "directory", "path")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    run: str
    spec: _run_pb2.RunSpec
    step: int
    directory: str
    path: str
    def __init__(self, run: _Optional[str] = ..., spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ..., step: _Optional[int] = ..., directory: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...

class ExportParametersResponse(_message.Message):
    __slots__ = ("step", "path", "directory", "arrays", "parameters", "bytes", "problem")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    step: int
    path: str
    directory: str
    arrays: int
    parameters: int
    bytes: int
    problem: str
    def __init__(self, step: _Optional[int] = ..., path: _Optional[str] = ..., directory: _Optional[str] = ..., arrays: _Optional[int] = ..., parameters: _Optional[int] = ..., bytes: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...
