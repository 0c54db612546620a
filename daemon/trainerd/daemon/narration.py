"""The journal's records as log lines: what befalls a run is told where its operator looks.

A line has the record's kind as its event, the run, its incarnation, the host and the step where
they are known, and the record's short values. What a trainer does all the time is for debugging.
"""

from __future__ import annotations

import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from trainerd.daemon import codec
from trainerd.daemon.journal import Stored
from trainerd.daemon.supervision.state import State
from trainerd.v1 import event_pb2, fault_pb2, run_pb2

log = structlog.get_logger()

LONGEST = 500
"""Characters of a value in a line."""

_QUIET = frozenset(
    {
        "daemon_ended",  # Told when it has.
        "evaluated",
        "event_ignored",
        "fault_raised",  # The decision about it tells of it.
        "first_loss_heard",
        "phase_entered",
        "progressed",
        "timer_fired",
        "trainer_detached",
    }
)
_OF_FAULT = frozenset({"step", "batch", "message"})
_EVIDENCE = frozenset({"log_tail", "stacks", "detail"})
"""Fields of many lines: they are in the incident."""


def narrate(stored: Stored, state: State) -> None:
    """An observer of the runtime: tell of one record."""
    message = stored.message
    payload: Message = getattr(message, stored.kind)
    told: dict[str, object] = {}
    if message.run:
        run = state.runs.get(message.run)
        told["run"] = message.run
        told["incarnation"] = message.incarnation or (run.incarnation if run else 0)
    if message.host:
        told["host"] = message.host
    if isinstance(payload, event_pb2.DecisionMade):
        told |= {
            "class": codec.class_name(payload.fault),
            **{
                key: value for key, value in short_values(payload.fault).items() if key in _OF_FAULT
            },
            **short_values(payload.decision),
        }
    if isinstance(payload, event_pb2.TrainerFinished):
        told["step"] = payload.result.step
    told |= short_values(payload)
    getattr(log, _level(stored.kind, payload, ignored=stored.ignored))(stored.kind, **told)


def _level(kind: str, payload: Message, *, ignored: bool) -> str:
    match payload:
        case event_pb2.RunStateChanged() if payload.to == run_pb2.RUN_STATE_FAILED:
            return "error"
        case event_pb2.DecisionMade() if not payload.trial:
            return "error" if payload.decision.action == fault_pb2.ACTION_FAIL else "warning"
        case event_pb2.JournalRecovered() | event_pb2.LauncherLost():
            return "warning"
        case _:
            return "debug" if ignored or kind in _QUIET else "info"


def short_values(payload: Message) -> dict[str, object]:
    """The numbers, words and short texts of a message by their names; nothing nested."""
    return {
        field.name: _value(field, value)
        for field, value in payload.ListFields()
        if field.message_type is None
        and not isinstance(value, bytes)
        and not _many(field)
        and field.name not in _EVIDENCE
    }


def _many(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _value(field: FieldDescriptor, value: object) -> object:
    if field.enum_type is not None and isinstance(value, int):
        return codec.enum_word(field.enum_type, value)
    return value[:LONGEST] if isinstance(value, str) else value
