"""TOML values of the protocol, as Python's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from trainerd.v1 import run_pb2

TomlValue: TypeAlias = "bool | int | float | str | list[TomlValue] | dict[str, TomlValue]"


def to_python(value: run_pb2.Value) -> TomlValue:
    """The value; raise ValueError for one without a kind."""
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "string_value":
            return value.string_value
        case "list_value":
            return [to_python(element) for element in value.list_value.values]
        case "table_value":
            return arguments(value.table_value.values)
        case kind:
            raise ValueError(f"a value must have a kind, got {kind}")


def arguments(values: Mapping[str, run_pb2.Value]) -> dict[str, TomlValue]:
    """A table; keyword arguments of an entry function, above all."""
    return {name: to_python(value) for name, value in values.items()}
