"""A TOML document, read as a `RunSpec` by walking the protocol's own descriptors.

A table is a message, a key is a field of the same name; an enum value is its name in lower case
without the prefix. There is no second list of keys to keep in step with the protocol.
"""

from __future__ import annotations

import datetime
import difflib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from google.protobuf.descriptor import FieldDescriptor

from trainerd.v1 import control_pb2, fault_pb2, run_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, EnumDescriptor
    from google.protobuf.message import Message

    from trainerd.clients.toml_lines import KeyPath

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# What a TOML value must be, its Python types, and into how many bits an integer must fit.
_SCALARS: Mapping[int, tuple[str, tuple[type[bool | int | float | str], ...], int]] = {
    FieldDescriptor.TYPE_BOOL: ("true or false", (bool,), 0),
    FieldDescriptor.TYPE_INT32: ("an integer", (int,), 32),
    FieldDescriptor.TYPE_INT64: ("an integer", (int,), 64),
    FieldDescriptor.TYPE_DOUBLE: ("a number", (float, int), 64),
    FieldDescriptor.TYPE_STRING: ("a string", (str,), 0),
}
_NO_DATES = 'dates are not supported: write it as a string, such as "2030-01-31"'


def read_spec(
    document: Mapping[str, object],
) -> tuple[run_pb2.RunSpec, list[control_pb2.Problem]]:
    """The specification a document holds, and everything that is wrong with its form.

    What is wrong is left out of the specification. Only keys and types are judged; whether
    the values make sense is the daemon's to say.
    """
    reader = _Reader()
    spec = run_pb2.RunSpec()
    reader.table(spec, document, ())
    return spec, reader.problems


def read_policy(
    table: Mapping[str, object],
) -> tuple[fault_pb2.Policy, list[control_pb2.Problem]]:
    """The same for what the table `[policy]` holds."""
    reader = _Reader()
    policy = fault_pb2.Policy()
    reader.table(policy, table, ("policy",))
    return policy, reader.problems


def key_text(path: KeyPath) -> str:
    """A key path as people write it: `args."my key"`, `trainer.path[1]`."""
    text = ""
    for part in path:
        match part:
            case int():
                text += f"[{part}]"
            case str():
                bare = _BARE_KEY.fullmatch(part)
                key = part if bare else json.dumps(part, ensure_ascii=False)
                text += f".{key}" if text else key
    return text


class _Reader:
    def __init__(self) -> None:
        self.problems: list[control_pb2.Problem] = []

    def table(self, message: Message, table: Mapping[str, object], path: KeyPath) -> None:
        message.SetInParent()
        descriptor = cast("Descriptor", message.DESCRIPTOR)
        for key, value in table.items():
            field = descriptor.fields_by_name.get(key)
            if field is None:
                self._unknown(descriptor, key, path)
            else:
                self._field(message, field, value, (*path, key))

    def _field(
        self, message: Message, field: FieldDescriptor, value: object, path: KeyPath
    ) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._map(message, field, value, path)
        elif field.is_repeated:
            if not isinstance(value, list):
                self._wrong_type(path, "an array", value)
                return
            for index, element in enumerate(value):
                if field.message_type is not None:
                    self._element(getattr(message, field.name).add(), element, (*path, index))
                    continue
                scalar = self._scalar(field, element, (*path, index))
                if scalar is not None:
                    getattr(message, field.name).append(scalar)
        elif field.message_type is not None:
            self._element(getattr(message, field.name), value, path)
        else:
            scalar = self._scalar(field, value, path)
            if scalar is not None:
                setattr(message, field.name, scalar)

    def _element(self, message: Message, value: object, path: KeyPath) -> None:
        if isinstance(value, dict):
            self.table(message, value, path)
        else:
            self._wrong_type(path, "a table", value)

    def _map(self, message: Message, field: FieldDescriptor, value: object, path: KeyPath) -> None:
        if not isinstance(value, dict):
            self._wrong_type(path, "a table", value)
            return
        entries = getattr(message, field.name)
        value_field = cast("Descriptor", field.message_type).fields_by_name["value"]
        for key, entry in value.items():
            if value_field.message_type is not None:
                self._argument(entries[key], entry, (*path, key))
            else:
                scalar = self._scalar(value_field, entry, (*path, key))
                if scalar is not None:
                    entries[key] = scalar

    def _argument(self, into: run_pb2.Value, value: object, path: KeyPath) -> None:
        """Any TOML value; integers stay integers."""
        match value:
            case bool():
                into.bool_value = value
            case int():
                if self._fits(value, 64, path):
                    into.int_value = value
            case float():
                into.double_value = value
            case str():
                into.string_value = value
            case list():
                into.list_value.SetInParent()
                for index, element in enumerate(value):
                    self._argument(into.list_value.values.add(), element, (*path, index))
            case dict():
                into.table_value.SetInParent()
                for key, entry in value.items():
                    self._argument(into.table_value.values[key], entry, (*path, key))
            case _:
                wanted = "a boolean, a number, a string, an array or a table"
                self._wrong_type(path, wanted, value)

    def _scalar(
        self, field: FieldDescriptor, value: object, path: KeyPath
    ) -> bool | int | float | str | None:
        """The value for a field, or None after saying what is wrong with it."""
        if field.enum_type is not None:
            return self._enum(field.enum_type, value, path)
        wanted, kinds, bits = _SCALARS[field.type]
        if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
            self._wrong_type(path, wanted, value)
            return None
        if bits and isinstance(value, int) and not self._fits(value, bits, path):
            return None
        return float(value) if float in kinds else value

    def _enum(self, enum_type: EnumDescriptor, value: object, path: KeyPath) -> int | None:
        words = _enum_words(enum_type)
        if not isinstance(value, str):
            self._wrong_type(path, _one_of(words), value)
        elif value not in words:
            self._problem(
                path, f"must be {_one_of(words)}, got {_shown(value)}", _near(value, words)
            )
        else:
            return words[value]
        return None

    def _fits(self, value: int, bits: int, path: KeyPath) -> bool:
        if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            return True
        self._problem(path, f"must fit in {bits} bits, got {value}")
        return False

    def _unknown(self, table: Descriptor, key: str, path: KeyPath) -> None:
        known = list(table.fields_by_name)
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        elsewhere = [found for found in _tables_with(key) if found != path]
        if elsewhere:
            suggestion = f"did you mean {key_text((*elsewhere[0], key))}?"
        elif near:
            suggestion = f"did you mean {key_text((*path, near[0]))}?"
        else:
            where = f"[{key_text(path)}]" if path else "the top level"
            suggestion = f"known keys of {where}: {', '.join(known)}"
        full = key_text((*path, key))
        self.problems.append(
            control_pb2.Problem(field=full, message=f"{full} is not known", suggestion=suggestion)
        )

    def _wrong_type(self, path: KeyPath, wanted: str, value: object) -> None:
        self._problem(path, f"must be {wanted}, got {_described(value)}", _repair(wanted, value))

    def _problem(self, path: KeyPath, what: str, suggestion: str = "") -> None:
        field = key_text(path)
        self.problems.append(
            control_pb2.Problem(field=field, message=f"{field} {what}", suggestion=suggestion)
        )


def enum_number(enum_type: EnumDescriptor, text: str) -> tuple[int | None, str]:
    """The number of a word; None and what is wrong with it, if it is not one of them."""
    words = _enum_words(enum_type)
    if text in words:
        return words[text], ""
    near = _near(text, words)
    problem = f"must be {_one_of(words)}, got {_shown(text)}"
    return None, f"{problem}; {near}" if near else problem


def _one_of(words: Mapping[str, int]) -> str:
    return "one of " + ", ".join(f'"{word}"' for word in words)


def _near(text: str, words: Mapping[str, int]) -> str:
    near = difflib.get_close_matches(text.lower(), words, n=1)
    return f'did you mean "{near[0]}"?' if near else ""


def _enum_words(enum_type: EnumDescriptor) -> dict[str, int]:
    """Lower-case names without the prefix, "unspecified" left out."""
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum_type.name).upper() + "_"
    return {
        value.name.removeprefix(prefix).lower(): value.number
        for value in enum_type.values
        if value.number != 0
    }


def _tables_with(key: str) -> list[KeyPath]:
    """The tables of a run file that know `key`; fault rules, which are all alike, left out."""
    top = run_pb2.RunSpec.DESCRIPTOR
    tables: list[KeyPath] = [()] if key in top.fields_by_name else []
    for field in top.fields:
        message = field.message_type
        if message is None or message.GetOptions().map_entry:
            continue
        if key in message.fields_by_name:
            tables.append((field.name,))
    return tables


def _repair(wanted: str, value: object) -> str:
    match wanted, value:
        case (("an integer" | "a number" | "true or false"), str()):
            inner = value.strip()
            plain = r"true|false" if wanted == "true or false" else r"[+-]?\d+"
            return f"write {inner}, without quotes" if re.fullmatch(plain, inner) else ""
        case "an integer", float() if value.is_integer():
            return f"write {int(value)}"
        case "a string", bool():
            return f'write "{str(value).lower()}"'
        case "a string", int() | float():
            return f'write "{value}"'
        case _, datetime.date() | datetime.time():
            return _NO_DATES
        case _:
            return ""


def _described(value: object) -> str:
    match value:
        case bool():
            description = f"the boolean {str(value).lower()}"
        case int():
            description = f"the integer {value}"
        case float():
            description = f"the number {value}"
        case str():
            description = f"the string {_shown(value)}"
        case list():
            description = "an array"
        case dict():
            description = "a table"
        case datetime.date():
            description = f"the date {value}"
        case _:
            description = f"the time {value}"
    return description


def _shown(text: str) -> str:
    return json.dumps(text if len(text) <= 60 else f"{text[:57]}...", ensure_ascii=False)
