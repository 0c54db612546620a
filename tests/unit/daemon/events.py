"""Hypothesis strategies for the supervisor's events, from their type hints."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from trainerd.daemon import codec
from trainerd.daemon.codec import KINDS
from trainerd.daemon.supervision.events import (
    AnyEvent,
    DerivedEvent,
    Event,
    PolicyChanged,
    RunSubmitted,
    TrainerEvent,
)
from trainerd.daemon.supervision.policy import Policy
from trainerd.daemon.terms import with_defaults
from trainerd.v1 import fault_pb2, run_pb2

INPUTS: tuple[type[Event], ...] = tuple(
    typing.cast(type[Event], cls)
    for cls in KINDS.values()
    if cls not in typing.get_args(DerivedEvent)
)
TRAINER_EVENTS: tuple[type[TrainerEvent], ...] = typing.get_args(TrainerEvent)

_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    int: st.integers(0, 2**31 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=8),
}


def events(cls: type[AnyEvent], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Events of one class; `fixed` replaces what the hints of some fields would allow."""
    assert cls is not RunSubmitted, "its specification and its policy belong together"
    if cls is PolicyChanged:
        runs = fixed.get("run", _TEXT)
        return st.builds(codec.policy_change, runs, policies(), trial=st.booleans())
    return _of(cls, fixed)


def policies() -> st.SearchStrategy[fault_pb2.Policy]:
    """Policies that a client may ask for, defaults filled in."""
    actions = st.sampled_from([fault_pb2.ACTION_RESTART, fault_pb2.ACTION_FAIL])
    rules = st.builds(fault_pb2.FaultRule, action=actions, limit=st.integers(0, 5))
    wanted = st.builds(
        fault_pb2.Policy,
        continue_on_error=st.booleans(),
        rollback_steps=st.integers(1, 100),
        crash=rules,
        hang=rules,
    )
    return wanted.map(lambda policy: with_defaults(run_pb2.RunSpec(policy=policy)).policy)


def _of(
    cls: Any, fixed: Mapping[str, st.SearchStrategy[Any]] = types.MappingProxyType({})
) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    fields = {
        field.name: fixed.get(field.name, _strategy(hints[field.name]))
        for field in dataclasses.fields(cls)
    }
    return st.builds(cls, **fields)


def _strategy(hint: Any) -> st.SearchStrategy[Any]:
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, types.UnionType):
        return st.one_of([_strategy(each) for each in typing.get_args(hint)])
    if hint is types.NoneType:
        return st.none()
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return st.lists(_strategy(arguments[0]), max_size=3).map(tuple)
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(_strategy(arguments[0]), _strategy(arguments[1]), max_size=3)
    if hint is Policy:
        return st.just(Policy())
    return _of(hint)
