"""A run's specification as JSON values, for whoever finds a checkpoint later."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from trainerd.actors.trainer.values import arguments
from trainerd.v1 import run_pb2


def described(spec: run_pb2.RunSpec) -> dict[str, Any]:
    """What is set of a specification, by the keys of a run file.

    Of the trainer's environment the names alone: its values may be secrets, and checkpoints are
    handed around.
    """
    values = {**_values(spec), "args": arguments(spec.args)}
    if spec.trainer.env:
        values["trainer"]["env"] = sorted(spec.trainer.env)
    return values


def _values(message: Message) -> dict[str, Any]:
    """Fields that are set; maps are left out."""
    return {
        field.name: [_value(field, each) for each in value]
        if field.is_repeated
        else _value(field, value)
        for field, value in message.ListFields()
        if not _is_map(field)
    }


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _values(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
