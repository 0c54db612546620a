import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckpointState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECKPOINT_STATE_UNSPECIFIED: _ClassVar[CheckpointState]
    CHECKPOINT_STATE_DURABLE: _ClassVar[CheckpointState]
    CHECKPOINT_STATE_UNVERIFIED: _ClassVar[CheckpointState]
    CHECKPOINT_STATE_DAMAGED: _ClassVar[CheckpointState]
    CHECKPOINT_STATE_UNREADABLE: _ClassVar[CheckpointState]
CHECKPOINT_STATE_UNSPECIFIED: CheckpointState
CHECKPOINT_STATE_DURABLE: CheckpointState
CHECKPOINT_STATE_UNVERIFIED: CheckpointState
CHECKPOINT_STATE_DAMAGED: CheckpointState
CHECKPOINT_STATE_UNREADABLE: CheckpointState

class StoredCheckpoint(_message.Message):
    __slots__ = ("step", "path", "bytes", "state", "reason", "problem", "saved_time", "damaged_time", "duration_s", "verified")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SAVED_TIME_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_TIME_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    step: int
    path: str
    bytes: int
    state: CheckpointState
    reason: str
    problem: str
    saved_time: _timestamp_pb2.Timestamp
    damaged_time: _timestamp_pb2.Timestamp
    duration_s: float
    verified: bool
    def __init__(self, step: _Optional[int] = ..., path: _Optional[str] = ..., bytes: _Optional[int] = ..., state: _Optional[_Union[CheckpointState, str]] = ..., reason: _Optional[str] = ..., problem: _Optional[str] = ..., saved_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., damaged_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration_s: _Optional[float] = ..., verified: _Optional[bool] = ...) -> None: ...
