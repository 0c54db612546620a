from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Activity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTIVITY_UNSPECIFIED: _ClassVar[Activity]
    ACTIVITY_PRODUCTIVE: _ClassVar[Activity]
    ACTIVITY_RECOMPUTED: _ClassVar[Activity]
    ACTIVITY_INIT: _ClassVar[Activity]
    ACTIVITY_COMPILE: _ClassVar[Activity]
    ACTIVITY_RESTORE: _ClassVar[Activity]
    ACTIVITY_EVALUATE: _ClassVar[Activity]
    ACTIVITY_CHECKPOINT_BLOCKED: _ClassVar[Activity]
    ACTIVITY_SNAPSHOT: _ClassVar[Activity]
    ACTIVITY_DATA_WAIT: _ClassVar[Activity]
    ACTIVITY_DECISION_WAIT: _ClassVar[Activity]
    ACTIVITY_RESTART: _ClassVar[Activity]
    ACTIVITY_DRAIN: _ClassVar[Activity]
    ACTIVITY_PAUSED: _ClassVar[Activity]
    ACTIVITY_QUEUED: _ClassVar[Activity]
ACTIVITY_UNSPECIFIED: Activity
ACTIVITY_PRODUCTIVE: Activity
ACTIVITY_RECOMPUTED: Activity
ACTIVITY_INIT: Activity
ACTIVITY_COMPILE: Activity
ACTIVITY_RESTORE: Activity
ACTIVITY_EVALUATE: Activity
ACTIVITY_CHECKPOINT_BLOCKED: Activity
ACTIVITY_SNAPSHOT: Activity
ACTIVITY_DATA_WAIT: Activity
ACTIVITY_DECISION_WAIT: Activity
ACTIVITY_RESTART: Activity
ACTIVITY_DRAIN: Activity
ACTIVITY_PAUSED: Activity
ACTIVITY_QUEUED: Activity

class ActivityTime(_message.Message):
    __slots__ = ("activity", "seconds")
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    activity: Activity
    seconds: float
    def __init__(self, activity: _Optional[_Union[Activity, str]] = ..., seconds: _Optional[float] = ...) -> None: ...
