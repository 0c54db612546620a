"""Events between the supervisor's dataclasses and `trainerd.v1.Event`.

The two have the same names and fields, so one generic translation serves all; what differs is
listed here. `run` and `incarnation` travel in the header of the message.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

from trainerd.daemon.drills import MAX_INJECTIONS, expanded
from trainerd.daemon.supervision.drills import Injection
from trainerd.daemon.supervision.events import (
    AnyEvent,
    CheckpointSaved,
    Evaluated,
    FaultInjected,
    FaultRaised,
    PhaseEntered,
    PolicyChanged,
    Profiled,
    RolledBack,
    RunSubmitted,
    SlotsFixed,
    StateRestored,
    TrainerFinished,
    TrainerPaused,
    TrainerResumed,
)
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.policy import UNCHARGED
from trainerd.daemon.terms import policy_of
from trainerd.v1 import event_pb2, fault_pb2, inject_pb2, run_pb2

_RENAMED = {"fault_class": "class", "before": "from", "after": "to"}
_HEADER = ("run", "incarnation")

KINDS: Mapping[str, type[AnyEvent]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower(): cls for cls in typing.get_args(AnyEvent)
}
"""Event dataclasses by the name of their field in `trainerd.v1.Event`."""

Report = (
    PhaseEntered
    | SlotsFixed
    | StateRestored
    | Evaluated
    | CheckpointSaved
    | FaultRaised
    | TrainerPaused
    | TrainerResumed
    | TrainerFinished
    | FaultInjected
    | RolledBack
    | Profiled
)
"""What a trainer may report. The rest is for clients, launcher and daemon to say."""

_UNCHARGED = {fault_class.value for fault_class in UNCHARGED}
_HINTS: dict[type[Any], Mapping[str, Any]] = {}
_FIELD_OF = {cls: name for name, cls in KINDS.items()}
_REPORTS = {_FIELD_OF[cls] for cls in typing.get_args(Report)}


def kind_of(event: AnyEvent) -> str:
    """The event's name, as in `trainerd.v1.Event` and in the journal."""
    return _FIELD_OF[type(event)]


def kind_of_class(cls: type[AnyEvent]) -> str:
    """The name of this class's events."""
    return _FIELD_OF[cls]


def encode(event: AnyEvent) -> event_pb2.Event:
    """The message of an event; `sequence`, `time` and `host` are left to the journal."""
    message = event_pb2.Event(
        run=getattr(event, "run", ""), incarnation=getattr(event, "incarnation", 0)
    )
    payload = getattr(message, kind_of(event))
    payload.SetInParent()
    if isinstance(event, RunSubmitted):
        payload.spec.ParseFromString(event.spec)
        payload.request_id = event.request_id
        payload.resumed_run = event.resumed_run
        payload.restore_directories.extend(event.restore_directories)
    elif isinstance(event, PolicyChanged):
        payload.policy.ParseFromString(event.message)
        payload.trial = event.trial
    else:
        fill(payload, event)
    return message


def decode(message: event_pb2.Event) -> AnyEvent:
    """The event of a message. One with values that this version does not know is a `ValueError`."""
    kind = message.WhichOneof("payload")
    if kind is None:
        raise ValueError(f"event {message.sequence} has no payload that this version knows")
    cls = KINDS[kind]
    payload = getattr(message, kind)
    if cls is RunSubmitted:
        return submission(
            message.run,
            payload.spec,
            payload.request_id,
            resumed_run=payload.resumed_run,
            restore_directories=tuple(payload.restore_directories),
        )
    if cls is PolicyChanged:
        return policy_change(message.run, payload.policy, trial=payload.trial)
    header = {name: getattr(message, name) for name in _HEADER if name in _hints(cls)}
    return typing.cast(AnyEvent, _read(cls, payload, header))


def decode_report(message: event_pb2.Event) -> Report | None:
    """The event of a trainer's report; None: nothing that a trainer may report, or not known."""
    if message.WhichOneof("payload") not in _REPORTS:
        return None
    try:
        return typing.cast(Report, decode(message))
    except ValueError:
        return None


def submission(
    run: str,
    spec: run_pb2.RunSpec,
    request_id: str,
    *,
    resumed_run: str = "",
    restore_directories: tuple[str, ...] = (),
) -> RunSubmitted:
    """The event of a submission whose specification has its defaults filled in."""
    return RunSubmitted(
        run=run,
        name=spec.name,
        spec=spec.SerializeToString(deterministic=True),
        policy=policy_of(spec),
        injections=tuple(injection_of(each) for each in expanded(spec)[:MAX_INJECTIONS]),
        request_id=request_id,
        resumed_run=resumed_run,
        restore_directories=restore_directories,
    )


def policy_change(run: str, policy: fault_pb2.Policy, *, trial: bool) -> PolicyChanged:
    """The event of a new policy whose defaults are filled in."""
    return PolicyChanged(
        run=run,
        policy=policy_of(run_pb2.RunSpec(policy=policy)),
        message=policy.SerializeToString(deterministic=True),
        trial=trial,
    )


def injection_of(message: inject_pb2.Injection) -> Injection:
    """The injection of a valid message."""
    return typing.cast(Injection, _read(Injection, message, {}))


def enum_value(
    message_field: Any,  # noqa: ANN401 - protobuf's two descriptor types
    member: enum.Enum | None,
) -> int:
    """The number of a Python enum member in the proto enum of this field; None: unspecified."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", message_field.enum_type.name).upper()
    name = "UNSPECIFIED" if member is None else str(member.value).upper()
    return int(message_field.enum_type.values_by_name[f"{prefix}_{name}"].number)


def phase_of(number: int) -> Phase | None:
    """The phase of a proto enum number; None: not known."""
    if number not in fault_pb2.Phase.values() or number == fault_pb2.PHASE_UNSPECIFIED:
        return None
    return Phase(fault_pb2.Phase.Name(number).removeprefix("PHASE_").lower())


def enum_word(enumeration: EnumDescriptor, number: int) -> str:
    """A member of a proto enum in lower case, without the enum's name; unknown: its number."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enumeration.name).upper()
    known = enumeration.values_by_number.get(number)
    return known.name.removeprefix(f"{prefix}_").lower() if known is not None else str(number)


def class_name(message: Message) -> str:
    """The fault class of a message that has one, in lower case."""
    number = getattr(message, "class")
    return fault_pb2.FaultClass.Name(number).removeprefix("FAULT_CLASS_").lower()


def is_uncharged(fault: fault_pb2.Fault) -> bool:
    """Whether a fault costs its run nothing: see `policy.UNCHARGED`."""
    return class_name(fault) in _UNCHARGED


def fill(message: Message, value: Any) -> None:  # noqa: ANN401 - any dataclass
    """Write a dataclass into the message of the same fields."""
    for field in dataclasses.fields(value):
        if field.name in _HEADER and field.name not in message.DESCRIPTOR.fields_by_name:
            continue
        name = _RENAMED.get(field.name, field.name)
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        item = getattr(value, field.name)
        if descriptor.enum_type is not None:
            setattr(message, name, enum_value(descriptor, item))
        elif isinstance(item, Mapping):
            getattr(message, name).update(item)
        elif isinstance(item, tuple):
            target = getattr(message, name)
            for element in item:
                if dataclasses.is_dataclass(element):
                    fill(target.add(), element)
                else:
                    target.append(element)
        elif dataclasses.is_dataclass(item):
            target = getattr(message, name)
            target.SetInParent()
            fill(target, item)
        else:
            setattr(message, name, item)


def _read(cls: type[Any], message: Message, header: Mapping[str, Any]) -> Any:  # noqa: ANN401
    values: dict[str, Any] = dict(header)
    for name, hint in _hints(cls).items():
        if name in values:
            continue
        wire = _RENAMED.get(name, name)
        values[name] = _value(hint, getattr(message, wire), message.DESCRIPTOR.fields_by_name[wire])
    return cls(**values)


def _value(hint: Any, raw: Any, descriptor: Any) -> Any:  # noqa: ANN401
    optional = isinstance(hint, types.UnionType)
    if optional:
        hint = next(arg for arg in typing.get_args(hint) if arg is not types.NoneType)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        known = descriptor.enum_type.values_by_number.get(raw)
        if known is None:
            raise ValueError(f"{descriptor.full_name} = {raw} is not known")
        text = known.name
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", descriptor.enum_type.name).upper()
        name = text.removeprefix(prefix + "_").lower()
        return None if optional and name == "unspecified" else hint(name)
    origin = typing.get_origin(hint)
    if origin is tuple:
        element = typing.get_args(hint)[0]
        if dataclasses.is_dataclass(element):
            return tuple(_read(typing.cast(type[Any], element), each, {}) for each in raw)
        return tuple(raw)
    if origin is not None and issubclass(origin, Mapping):
        return dict(raw)
    if dataclasses.is_dataclass(hint):
        return _read(typing.cast(type[Any], hint), raw, {})
    return raw


def _hints(cls: type[Any]) -> Mapping[str, Any]:
    known = _HINTS.get(cls)
    if known is None:
        hints = typing.get_type_hints(cls)
        known = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
        _HINTS[cls] = known
    return known
