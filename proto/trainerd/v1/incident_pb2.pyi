import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from trainerd.v1 import fault_pb2 as _fault_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Incident(_message.Message):
    __slots__ = ("number", "run", "incarnation", "host", "time", "fault", "decision", "step", "durable_step", "versions", "checkpoint", "ledger", "slots", "slot_parts")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DURABLE_STEP_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SLOT_PARTS_FIELD_NUMBER: _ClassVar[int]
    number: int
    run: str
    incarnation: int
    host: str
    time: _timestamp_pb2.Timestamp
    fault: _fault_pb2.Fault
    decision: _fault_pb2.Decision
    step: int
    durable_step: int
    versions: _containers.ScalarMap[str, str]
    checkpoint: str
    ledger: _containers.RepeatedCompositeFieldContainer[LedgerEntry]
    slots: int
    slot_parts: int
    def __init__(self, number: _Optional[int] = ..., run: _Optional[str] = ..., incarnation: _Optional[int] = ..., host: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., fault: _Optional[_Union[_fault_pb2.Fault, _Mapping]] = ..., decision: _Optional[_Union[_fault_pb2.Decision, _Mapping]] = ..., step: _Optional[int] = ..., durable_step: _Optional[int] = ..., versions: _Optional[_Mapping[str, str]] = ..., checkpoint: _Optional[str] = ..., ledger: _Optional[_Iterable[_Union[LedgerEntry, _Mapping]]] = ..., slots: _Optional[int] = ..., slot_parts: _Optional[int] = ...) -> None: ...

class LedgerEntry(_message.Message):
    __slots__ = ("first_batch", "last_batch", "slots", "fault_class", "decision")
    FIRST_BATCH_FIELD_NUMBER: _ClassVar[int]
    LAST_BATCH_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    FAULT_CLASS_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    first_batch: int
    last_batch: int
    slots: _containers.RepeatedScalarFieldContainer[int]
    fault_class: str
    decision: str
    def __init__(self, first_batch: _Optional[int] = ..., last_batch: _Optional[int] = ..., slots: _Optional[_Iterable[int]] = ..., fault_class: _Optional[str] = ..., decision: _Optional[str] = ...) -> None: ...

class IncidentEvidence(_message.Message):
    __slots__ = ("last_steps", "memory", "stacks", "log_tail")
    LAST_STEPS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    STACKS_FIELD_NUMBER: _ClassVar[int]
    LOG_TAIL_FIELD_NUMBER: _ClassVar[int]
    last_steps: _containers.RepeatedCompositeFieldContainer[StepSample]
    memory: MemoryUse
    stacks: str
    log_tail: str
    def __init__(self, last_steps: _Optional[_Iterable[_Union[StepSample, _Mapping]]] = ..., memory: _Optional[_Union[MemoryUse, _Mapping]] = ..., stacks: _Optional[str] = ..., log_tail: _Optional[str] = ...) -> None: ...

class StepSample(_message.Message):
    __slots__ = ("step", "loss", "gradient_norm", "duration_s")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_NORM_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    step: int
    loss: float
    gradient_norm: float
    duration_s: float
    def __init__(self, step: _Optional[int] = ..., loss: _Optional[float] = ..., gradient_norm: _Optional[float] = ..., duration_s: _Optional[float] = ...) -> None: ...

class MemoryUse(_message.Message):
    __slots__ = ("resident_bytes", "device_bytes")
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    resident_bytes: int
    device_bytes: int
    def __init__(self, resident_bytes: _Optional[int] = ..., device_bytes: _Optional[int] = ...) -> None: ...
