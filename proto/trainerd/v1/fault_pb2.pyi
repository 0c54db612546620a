from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FaultClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAULT_CLASS_UNSPECIFIED: _ClassVar[FaultClass]
    FAULT_CLASS_NON_FINITE_MICROBATCH: _ClassVar[FaultClass]
    FAULT_CLASS_NON_FINITE_STEP: _ClassVar[FaultClass]
    FAULT_CLASS_LOSS_SPIKE: _ClassVar[FaultClass]
    FAULT_CLASS_DATA_ERROR: _ClassVar[FaultClass]
    FAULT_CLASS_STEP_EXCEPTION: _ClassVar[FaultClass]
    FAULT_CLASS_DEVICE_OOM: _ClassVar[FaultClass]
    FAULT_CLASS_DEVICE_ERROR: _ClassVar[FaultClass]
    FAULT_CLASS_CRASH: _ClassVar[FaultClass]
    FAULT_CLASS_HANG: _ClassVar[FaultClass]
    FAULT_CLASS_PEER_LOST: _ClassVar[FaultClass]
    FAULT_CLASS_HOST_LOST: _ClassVar[FaultClass]
    FAULT_CLASS_CHECKPOINT_SAVE_FAILED: _ClassVar[FaultClass]
    FAULT_CLASS_CHECKPOINT_CORRUPT: _ClassVar[FaultClass]
    FAULT_CLASS_PREEMPTION: _ClassVar[FaultClass]
    FAULT_CLASS_VOLUNTARY: _ClassVar[FaultClass]
    FAULT_CLASS_NO_PROGRESS: _ClassVar[FaultClass]
    FAULT_CLASS_DAEMON_CRASH: _ClassVar[FaultClass]
    FAULT_CLASS_JOURNAL_FULL: _ClassVar[FaultClass]

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_CONTINUE: _ClassVar[Action]
    ACTION_MASK: _ClassVar[Action]
    ACTION_SKIP: _ClassVar[Action]
    ACTION_ROLLBACK: _ClassVar[Action]
    ACTION_RESTART: _ClassVar[Action]
    ACTION_REFORM: _ClassVar[Action]
    ACTION_PAUSE: _ClassVar[Action]
    ACTION_FAIL: _ClassVar[Action]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_SPAWN: _ClassVar[Phase]
    PHASE_INIT: _ClassVar[Phase]
    PHASE_RESTORE: _ClassVar[Phase]
    PHASE_COMPILE: _ClassVar[Phase]
    PHASE_FIRST_STEP: _ClassVar[Phase]
    PHASE_STEP: _ClassVar[Phase]
    PHASE_SAVE: _ClassVar[Phase]
    PHASE_DRAIN: _ClassVar[Phase]
    PHASE_PAUSED: _ClassVar[Phase]
    PHASE_EVALUATE: _ClassVar[Phase]
FAULT_CLASS_UNSPECIFIED: FaultClass
FAULT_CLASS_NON_FINITE_MICROBATCH: FaultClass
FAULT_CLASS_NON_FINITE_STEP: FaultClass
FAULT_CLASS_LOSS_SPIKE: FaultClass
FAULT_CLASS_DATA_ERROR: FaultClass
FAULT_CLASS_STEP_EXCEPTION: FaultClass
FAULT_CLASS_DEVICE_OOM: FaultClass
FAULT_CLASS_DEVICE_ERROR: FaultClass
FAULT_CLASS_CRASH: FaultClass
FAULT_CLASS_HANG: FaultClass
FAULT_CLASS_PEER_LOST: FaultClass
FAULT_CLASS_HOST_LOST: FaultClass
FAULT_CLASS_CHECKPOINT_SAVE_FAILED: FaultClass
FAULT_CLASS_CHECKPOINT_CORRUPT: FaultClass
FAULT_CLASS_PREEMPTION: FaultClass
FAULT_CLASS_VOLUNTARY: FaultClass
FAULT_CLASS_NO_PROGRESS: FaultClass
FAULT_CLASS_DAEMON_CRASH: FaultClass
FAULT_CLASS_JOURNAL_FULL: FaultClass
ACTION_UNSPECIFIED: Action
ACTION_CONTINUE: Action
ACTION_MASK: Action
ACTION_SKIP: Action
ACTION_ROLLBACK: Action
ACTION_RESTART: Action
ACTION_REFORM: Action
ACTION_PAUSE: Action
ACTION_FAIL: Action
PHASE_UNSPECIFIED: Phase
PHASE_SPAWN: Phase
PHASE_INIT: Phase
PHASE_RESTORE: Phase
PHASE_COMPILE: Phase
PHASE_FIRST_STEP: Phase
PHASE_STEP: Phase
PHASE_SAVE: Phase
PHASE_DRAIN: Phase
PHASE_PAUSED: Phase
PHASE_EVALUATE: Phase

class Fault(_message.Message):
    __slots__ = ("message", "suggestion", "detail", "step", "batch", "phase", "state_intact", "reason", "slots", "delegated", "awaits_decision", "policy_version", "host")
    CLASS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SUGGESTION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STATE_INTACT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    DELEGATED_FIELD_NUMBER: _ClassVar[int]
    AWAITS_DECISION_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    message: str
    suggestion: str
    detail: str
    step: int
    batch: int
    phase: Phase
    state_intact: bool
    reason: str
    slots: _containers.RepeatedScalarFieldContainer[int]
    delegated: Action
    awaits_decision: bool
    policy_version: int
    host: str
    def __init__(self, message: _Optional[str] = ..., suggestion: _Optional[str] = ..., detail: _Optional[str] = ..., step: _Optional[int] = ..., batch: _Optional[int] = ..., phase: _Optional[_Union[Phase, str]] = ..., state_intact: _Optional[bool] = ..., reason: _Optional[str] = ..., slots: _Optional[_Iterable[int]] = ..., delegated: _Optional[_Union[Action, str]] = ..., awaits_decision: _Optional[bool] = ..., policy_version: _Optional[int] = ..., host: _Optional[str] = ..., **kwargs) -> None: ...

class Decision(_message.Message):
    __slots__ = ("action", "scope", "delay_s", "reason", "answers", "rollback_steps", "slot_parts")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    DELAY_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_STEPS_FIELD_NUMBER: _ClassVar[int]
    SLOT_PARTS_FIELD_NUMBER: _ClassVar[int]
    action: Action
    scope: str
    delay_s: float
    reason: str
    answers: int
    rollback_steps: int
    slot_parts: int
    def __init__(self, action: _Optional[_Union[Action, str]] = ..., scope: _Optional[str] = ..., delay_s: _Optional[float] = ..., reason: _Optional[str] = ..., answers: _Optional[int] = ..., rollback_steps: _Optional[int] = ..., slot_parts: _Optional[int] = ...) -> None: ...

class FaultRule(_message.Message):
    __slots__ = ("action", "limit", "window_s", "then", "consecutive")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    THEN_FIELD_NUMBER: _ClassVar[int]
    CONSECUTIVE_FIELD_NUMBER: _ClassVar[int]
    action: Action
    limit: int
    window_s: float
    then: Action
    consecutive: int
    def __init__(self, action: _Optional[_Union[Action, str]] = ..., limit: _Optional[int] = ..., window_s: _Optional[float] = ..., then: _Optional[_Union[Action, str]] = ..., consecutive: _Optional[int] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("continue_on_error", "backoff_s", "backoff_max_s", "max_cycles_without_progress", "loss_spike_z", "hang_factor", "hang_floor_s", "rollback_steps", "non_finite_microbatch", "non_finite_step", "loss_spike", "data_error", "step_exception", "device_oom", "device_error", "crash", "hang", "host_lost")
    CONTINUE_ON_ERROR_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_S_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MAX_S_FIELD_NUMBER: _ClassVar[int]
    MAX_CYCLES_WITHOUT_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOSS_SPIKE_Z_FIELD_NUMBER: _ClassVar[int]
    HANG_FACTOR_FIELD_NUMBER: _ClassVar[int]
    HANG_FLOOR_S_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_STEPS_FIELD_NUMBER: _ClassVar[int]
    NON_FINITE_MICROBATCH_FIELD_NUMBER: _ClassVar[int]
    NON_FINITE_STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_SPIKE_FIELD_NUMBER: _ClassVar[int]
    DATA_ERROR_FIELD_NUMBER: _ClassVar[int]
    STEP_EXCEPTION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_OOM_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ERROR_FIELD_NUMBER: _ClassVar[int]
    CRASH_FIELD_NUMBER: _ClassVar[int]
    HANG_FIELD_NUMBER: _ClassVar[int]
    HOST_LOST_FIELD_NUMBER: _ClassVar[int]
    continue_on_error: bool
    backoff_s: float
    backoff_max_s: float
    max_cycles_without_progress: int
    loss_spike_z: float
    hang_factor: float
    hang_floor_s: float
    rollback_steps: int
    non_finite_microbatch: FaultRule
    non_finite_step: FaultRule
    loss_spike: FaultRule
    data_error: FaultRule
    step_exception: FaultRule
    device_oom: FaultRule
    device_error: FaultRule
    crash: FaultRule
    hang: FaultRule
    host_lost: FaultRule
    def __init__(self, continue_on_error: _Optional[bool] = ..., backoff_s: _Optional[float] = ..., backoff_max_s: _Optional[float] = ..., max_cycles_without_progress: _Optional[int] = ..., loss_spike_z: _Optional[float] = ..., hang_factor: _Optional[float] = ..., hang_floor_s: _Optional[float] = ..., rollback_steps: _Optional[int] = ..., non_finite_microbatch: _Optional[_Union[FaultRule, _Mapping]] = ..., non_finite_step: _Optional[_Union[FaultRule, _Mapping]] = ..., loss_spike: _Optional[_Union[FaultRule, _Mapping]] = ..., data_error: _Optional[_Union[FaultRule, _Mapping]] = ..., step_exception: _Optional[_Union[FaultRule, _Mapping]] = ..., device_oom: _Optional[_Union[FaultRule, _Mapping]] = ..., device_error: _Optional[_Union[FaultRule, _Mapping]] = ..., crash: _Optional[_Union[FaultRule, _Mapping]] = ..., hang: _Optional[_Union[FaultRule, _Mapping]] = ..., host_lost: _Optional[_Union[FaultRule, _Mapping]] = ...) -> None: ...
