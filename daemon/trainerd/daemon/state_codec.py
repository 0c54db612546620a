"""The supervisor's state as bytes: generic over its type hints, by names, and never guessed.

A later release may add fields that have defaults and members of enumerations; bytes with a field
or a value that this release does not know are refused. `shape` tells releases apart.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import functools
import hashlib
import json
import types
import typing
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from trainerd.daemon.supervision.state import State


def encode(state: State) -> bytes:
    """The bytes of a state."""
    text = json.dumps(_coder(State).encode(state), separators=(",", ":"), ensure_ascii=False)
    return zlib.compress(text.encode(), level=1)


def decode(data: bytes) -> State:
    """The state of these bytes. Raise `ValueError` if this release cannot know what they mean."""
    try:
        document = json.loads(zlib.decompress(data))
    except (zlib.error, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    return typing.cast(State, _coder(State).decode(document, "state"))


def shape() -> str:
    """A digest of the names and types of everything that a state is made of."""
    told: dict[str, str] = {}
    _describe(State, told)
    text = "\n".join(f"{name}: {told[name]}" for name in sorted(told))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class _Coder:
    """How values of one hint become JSON and come back; `decode` is told where it is."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any, str], Any]


@functools.cache
def _coder(hint: Any) -> _Coder:  # noqa: ANN401 - a type hint
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        return _union(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(*arguments)
    if hint is types.NoneType:
        return _Coder(lambda _: None, _none)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _Coder(lambda member: member.value, functools.partial(_member, hint))
    if hint is bytes:
        return _Coder(lambda data: base64.b64encode(data).decode(), _bytes)
    if hint is float:
        # Python writes and reads infinities and every last bit.
        return _Coder(float, _float)
    if hint in (str, int, bool):
        return _Coder(lambda value: value, functools.partial(_plain, hint))
    return _record(hint)


def _record(cls: Any) -> _Coder:  # noqa: ANN401 - a dataclass or a named tuple
    defaults = _fields(cls)
    hints = typing.get_type_hints(cls)

    def encode(value: Any) -> dict[str, Any]:  # noqa: ANN401
        return {name: _coder(hints[name]).encode(getattr(value, name)) for name in defaults}

    def decode(raw: Any, where: str) -> Any:  # noqa: ANN401
        _expect(isinstance(raw, dict), where, cls.__name__, raw)
        unknown = raw.keys() - defaults.keys()
        missing = [name for name, optional in defaults.items() if not (optional or name in raw)]
        if unknown or missing:
            what = f"{where} has no {missing[0]}" if missing else f"{where}.{min(unknown)}"
            raise ValueError(f"{what} is not what this release knows of a {cls.__name__}")
        return cls(
            **{
                name: _coder(hints[name]).decode(value, f"{where}.{name}")
                for name, value in raw.items()
            }
        )

    return _Coder(encode, decode)


def _fields(cls: Any) -> Mapping[str, bool]:  # noqa: ANN401
    """The fields of a record, and whether each has a default."""
    if dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        return {
            each.name: each.default is not missing or each.default_factory is not missing
            for each in dataclasses.fields(cls)
        }
    if isinstance(cls, type) and issubclass(cls, tuple):
        return {name: name in cls._field_defaults for name in cls._fields}  # type: ignore[attr-defined]
    raise TypeError(f"a state cannot hold a {cls}")


def _union(members: tuple[Any, ...]) -> _Coder:
    """None, or the place of the member and its value."""

    def encode(value: Any) -> Any:  # noqa: ANN401
        if value is None:
            return None
        place = next(place for place, member in enumerate(members) if _is(value, member))
        return [place, _coder(members[place]).encode(value)]

    def decode(raw: Any, where: str) -> Any:  # noqa: ANN401
        if raw is None:
            return _expect(types.NoneType in members, where, "a value", raw)
        known = isinstance(raw, list) and len(raw) == 2 and raw[0] in range(len(members))
        _expect(known, where, "one of a union", raw)
        return _coder(members[raw[0]]).decode(raw[1], where)

    return _Coder(encode, decode)


def _is(value: object, member: Any) -> bool:  # noqa: ANN401
    kind = typing.get_origin(member) or member
    # A named tuple is a tuple as well.
    return type(value) is kind if kind is tuple else isinstance(value, kind)


def _tuple(arguments: tuple[Any, ...]) -> _Coder:
    endless = len(arguments) == 2 and arguments[1] is Ellipsis

    def hints(values: Any) -> tuple[Any, ...]:  # noqa: ANN401
        return (arguments[0],) * len(values) if endless else arguments

    def encode(values: Any) -> list[Any]:  # noqa: ANN401
        return [_coder(h).encode(each) for h, each in zip(hints(values), values, strict=True)]

    def decode(raw: Any, where: str) -> tuple[Any, ...]:  # noqa: ANN401
        fits = isinstance(raw, list) and len(hints(raw)) == len(raw)
        _expect(fits, where, "a tuple", raw)
        return tuple(
            _coder(h).decode(each, f"{where}[{place}]")
            for place, (h, each) in enumerate(zip(hints(raw), raw, strict=True))
        )

    return _Coder(encode, decode)


def _mapping(key: Any, value: Any) -> _Coder:  # noqa: ANN401
    """Pairs, in the mapping's order: keys need not be text."""

    def encode(mapping: Any) -> list[Any]:  # noqa: ANN401
        return [[_coder(key).encode(k), _coder(value).encode(v)] for k, v in mapping.items()]

    def decode(raw: Any, where: str) -> dict[Any, Any]:  # noqa: ANN401
        _expect(isinstance(raw, list), where, "pairs", raw)
        return {
            _coder(key).decode(k, where): _coder(value).decode(v, f"{where}[{k!r}]") for k, v in raw
        }

    return _Coder(encode, decode)


def _none(raw: object, where: str) -> None:
    _expect(raw is None, where, "nothing", raw)


def _member(cls: type[enum.Enum], raw: object, where: str) -> enum.Enum:
    try:
        return cls(raw)
    except ValueError:
        raise ValueError(f"{where}: {raw!r} is not a {cls.__name__} of this release") from None


def _bytes(raw: object, where: str) -> bytes:
    _expect(isinstance(raw, str), where, "bytes", raw)
    return base64.b64decode(str(raw), validate=True)


def _float(raw: object, where: str) -> float:
    _expect(isinstance(raw, float | int), where, "a number", raw)
    return float(typing.cast(float, raw))


def _plain(cls: type, raw: object, where: str) -> object:
    _expect(type(raw) is cls, where, cls.__name__, raw)
    return raw


def _expect(true: bool, where: str, what: str, raw: object) -> None:
    if not true:
        raise ValueError(f"{where}: expected {what}, got {type(raw).__name__}")


def _describe(hint: Any, told: dict[str, str]) -> str:  # noqa: ANN401
    """Write down what a hint is made of; return its name."""
    arguments = [each for each in typing.get_args(hint) if each is not Ellipsis]
    if arguments:
        inner = ",".join(_describe(each, told) for each in arguments)
        origin = typing.get_origin(hint)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    name = str(getattr(hint, "__name__", hint))
    if name in told or hint in (str, int, bool, float, bytes, types.NoneType):
        return name
    told[name] = ""
    if issubclass(hint, enum.Enum):
        told[name] = ",".join(str(member.value) for member in hint)
    else:
        hints = typing.get_type_hints(hint)
        told[name] = ",".join(f"{each}={_describe(hints[each], told)}" for each in _fields(hint))
    return name
