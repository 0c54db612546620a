from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InjectedFault(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INJECTED_FAULT_UNSPECIFIED: _ClassVar[InjectedFault]
    INJECTED_FAULT_EXCEPTION: _ClassVar[InjectedFault]
    INJECTED_FAULT_NAN: _ClassVar[InjectedFault]
    INJECTED_FAULT_LOSS_SPIKE: _ClassVar[InjectedFault]
    INJECTED_FAULT_DATA_ERROR: _ClassVar[InjectedFault]
    INJECTED_FAULT_OUT_OF_MEMORY: _ClassVar[InjectedFault]
    INJECTED_FAULT_DEVICE_ERROR: _ClassVar[InjectedFault]
    INJECTED_FAULT_HANG: _ClassVar[InjectedFault]
    INJECTED_FAULT_HANG_GIL: _ClassVar[InjectedFault]
    INJECTED_FAULT_SIGKILL: _ClassVar[InjectedFault]
    INJECTED_FAULT_SIGSTOP: _ClassVar[InjectedFault]
    INJECTED_FAULT_SEGFAULT: _ClassVar[InjectedFault]
    INJECTED_FAULT_EXIT: _ClassVar[InjectedFault]
    INJECTED_FAULT_SLOW_STEP: _ClassVar[InjectedFault]
INJECTED_FAULT_UNSPECIFIED: InjectedFault
INJECTED_FAULT_EXCEPTION: InjectedFault
INJECTED_FAULT_NAN: InjectedFault
INJECTED_FAULT_LOSS_SPIKE: InjectedFault
INJECTED_FAULT_DATA_ERROR: InjectedFault
INJECTED_FAULT_OUT_OF_MEMORY: InjectedFault
INJECTED_FAULT_DEVICE_ERROR: InjectedFault
INJECTED_FAULT_HANG: InjectedFault
INJECTED_FAULT_HANG_GIL: InjectedFault
INJECTED_FAULT_SIGKILL: InjectedFault
INJECTED_FAULT_SIGSTOP: InjectedFault
INJECTED_FAULT_SEGFAULT: InjectedFault
INJECTED_FAULT_EXIT: InjectedFault
INJECTED_FAULT_SLOW_STEP: InjectedFault

class Injection(_message.Message):
    __slots__ = ("fault", "step", "probability", "slots", "times", "seconds", "exit_code", "seed")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    fault: InjectedFault
    step: int
    probability: float
    slots: _containers.RepeatedScalarFieldContainer[int]
    times: int
    seconds: float
    exit_code: int
    seed: int
    def __init__(self, fault: _Optional[_Union[InjectedFault, str]] = ..., step: _Optional[int] = ..., probability: _Optional[float] = ..., slots: _Optional[_Iterable[int]] = ..., times: _Optional[int] = ..., seconds: _Optional[float] = ..., exit_code: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class InjectSpec(_message.Message):
    __slots__ = ("faults", "schedule")
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedCompositeFieldContainer[Injection]
    schedule: InjectSchedule
    def __init__(self, faults: _Optional[_Iterable[_Union[Injection, _Mapping]]] = ..., schedule: _Optional[_Union[InjectSchedule, _Mapping]] = ...) -> None: ...

class InjectSchedule(_message.Message):
    __slots__ = ("faults", "mean_steps", "seed")
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    MEAN_STEPS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedScalarFieldContainer[InjectedFault]
    mean_steps: float
    seed: int
    def __init__(self, faults: _Optional[_Iterable[_Union[InjectedFault, str]]] = ..., mean_steps: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class ArmedInjection(_message.Message):
    __slots__ = ("number", "injection", "batches")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INJECTION_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    number: int
    injection: Injection
    batches: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, number: _Optional[int] = ..., injection: _Optional[_Union[Injection, _Mapping]] = ..., batches: _Optional[_Iterable[int]] = ...) -> None: ...
