"""A policy as text, two policies side by side, and what another one would have decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from trainerd.clients.sentences import class_word, decision_text
from trainerd.clients.wording import date_and_clock, duration, one_line, plural, word
from trainerd.v1 import control_pb2, fault_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

_NO_LIMIT = 1000
"""A limit beyond this one is never reached: a run remembers that many faults of a class."""
_WIDTH = 28


def policy_text(answer: control_pb2.GetPolicyResponse) -> list[str]:
    """What is done about each class, then the settings; what a trial changes."""
    since = f"version {answer.version}" if answer.version else "as the run file says"
    lines = [f"policy: {since}", ""]
    for name, rule in _rules(answer.policy):
        lines.append(f"{name:<{_WIDTH}}{_rule(rule)}")
    lines.append("")
    lines += [f"{name:<{_WIDTH}}{value}" for name, value in _settings(answer.policy)]
    if answer.HasField("trial"):
        changed = differences(answer.policy, answer.trial) or ["the same policy"]
        lines += ["", "on trial:", *(f"  {line}" for line in changed)]
    return lines


def differences(before: fault_pb2.Policy, after: fault_pb2.Policy) -> list[str]:
    """What changes, such as `crash.limit: 20 → 5`."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        f"{name}: {old.get(name, 'not set')} → {new.get(name, 'not set')}"
        for name in (*new, *(old.keys() - new.keys()))
        if old.get(name) != new.get(name)
    ]


def simulation_text(answer: control_pb2.SimulatePolicyResponse) -> list[str]:
    """A row a fault: when, which, what was decided, what would be; differing rows are marked."""
    if not answer.decisions:
        return ["no faults: there was nothing to decide"]
    rows = [("", "WHEN", "FAULT", "DECIDED", "WOULD BE")]
    differing = 0
    for each in answer.decisions:
        same = each.decision.action == each.simulated.action
        differing += not same
        rows.append(
            (
                " " if same else "*",
                date_and_clock(each.time),
                _place(each.fault),
                _action(each.decision),
                _action(each.simulated) if same else decision_text(each.simulated),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [_row(row, widths) for row in rows]
    if answer.left_out:
        lines.append(f"{plural(answer.left_out, 'older decision')} not shown")
    count = len(answer.decisions)
    verdict = f"{differing:,} of {plural(count, 'decision')} would differ (*)"
    return [*lines, verdict if differing else f"{plural(count, 'decision')}, all the same"]


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
    return "  ".join([*cells, one_line(row[-1])]).rstrip()


def _place(fault: fault_pb2.Fault) -> str:
    # A process that is gone did not say at which step it went.
    step = f" at step {fault.step:,}" if fault.step else ""
    batch = f", batch {fault.batch:,}" if fault.batch >= 0 else ""
    return f"{class_word(fault)}{step}{batch}"


def _action(decision: fault_pb2.Decision) -> str:
    return word(fault_pb2.Action, "ACTION_", decision.action)


def _rules(policy: fault_pb2.Policy) -> Iterator[tuple[str, fault_pb2.FaultRule]]:
    for field in cast("Descriptor", policy.DESCRIPTOR).fields:
        if field.message_type is not None:
            yield field.name, getattr(policy, field.name)


def _rule(rule: fault_pb2.FaultRule) -> str:
    action = word(fault_pb2.Action, "ACTION_", rule.action)
    then = word(fault_pb2.Action, "ACTION_", rule.then)
    if action == "fail" or rule.limit > _NO_LIMIT:
        return action
    text = f"{action}; more than {rule.limit:,} in {duration(rule.window_s)}: {then}"
    return f"{text}; {rule.consecutive:,} in a row: {then}" if rule.consecutive else text


def _settings(policy: fault_pb2.Policy) -> Iterator[tuple[str, str]]:
    for field, value in policy.ListFields():
        if field.message_type is None:
            yield field.name, _value(value)


def _flat(policy: fault_pb2.Policy) -> Iterator[tuple[str, str]]:
    yield from _settings(policy)
    for name, rule in _rules(policy):
        for field, value in cast("Message", rule).ListFields():
            shown = (
                word(fault_pb2.Action, "ACTION_", value)
                if field.enum_type is not None
                else _value(value)
            )
            yield f"{name}.{field.name}", shown


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return str(value)
