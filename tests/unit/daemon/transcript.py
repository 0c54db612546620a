"""Transcripts of the supervisor: events in at the margin, the commands they cause indented.

    # a comment
    + 5                                  five seconds pass
    trainer_attached phase=spawn         an event: its journal name and its fields
    run_submitted crash.limit=1          a policy's rules: class, dot, field
    fire attach                          time passes until that timer of run r is due; it fires
    fire kill r b                        the same of its process on host b
      timer attach:r:1 60 s              what the supervisor wants done

`run` is r and `incarnation` the run's present one where a line does not say. Everything that
follows is deterministic, so a transcript is both the script and the expectation.
"""

from __future__ import annotations

import dataclasses
import enum
import shlex
import types
import typing
from typing import Any

from trainerd.daemon.codec import KINDS
from trainerd.daemon.supervision.commands import (
    CancelTimer,
    Command,
    Inject,
    KillTrainer,
    Order,
    Pause,
    PrepareStandby,
    Record,
    RemoveFiles,
    Resume,
    Save,
    SetPolicy,
    StartCoordinator,
    StartTimer,
    StartTrainer,
    Stop,
    StopCoordinator,
    TellTrainer,
    WriteIncident,
)
from trainerd.daemon.supervision.drills import InjectedFault, Injection
from trainerd.daemon.supervision.events import (
    DecisionMade,
    Evaluation,
    Event,
    EventIgnored,
    FaultRaised,
    LauncherAttached,
    LiveTrainer,
    PolicyChanged,
    RejectedCheckpoint,
    RunResult,
    RunStateChanged,
    RunSubmitted,
    TimerFired,
)
from trainerd.daemon.supervision.faults import Decision, Fault
from trainerd.daemon.supervision.policy import DEFAULT_RULES, FaultClass, Policy
from trainerd.daemon.supervision.state import State
from trainerd.daemon.supervision.supervisor import step
from trainerd.daemon.supervision.turn import timer_parts

_NESTED = (Fault, RunResult, Evaluation, Injection, Policy)


class Player:
    """Feeds a transcript's events to the supervisor, from an empty state at time 0."""

    def __init__(self) -> None:
        self.state = State()
        self.now = 0.0

    def play(self, transcript: str) -> str:
        """Return the transcript with what the supervisor really does."""
        lines: list[str] = []
        for line in transcript.splitlines():
            if line.startswith(" "):
                continue
            lines.append(line.rstrip())
            words = shlex.split(line, comments=True)
            if words:
                lines += [f"  {text}" for text in self._do(words)]
        return "\n".join(lines) + "\n"

    def _do(self, words: list[str]) -> list[str]:
        match words:
            case ["+", seconds]:
                self.now += float(seconds)
                return []
            case ["fire", kind, *rest]:
                run, host = (rest or ["r"])[0], rest[1] if len(rest) > 1 else ""
                keys = [
                    key
                    for key in self.state.timers
                    if timer_parts(key)[:2] == (kind, run) and timer_parts(key)[3] == host
                ]
                if not keys:
                    raise ValueError(f"no timer {kind} of {run} runs: {sorted(self.state.timers)}")
                self.now = max(self.now, self.state.timers[keys[0]])
                event: Event = TimerFired(key=keys[0])
            case [kind, *fields]:
                event = self._event(kind, dict(_field(text) for text in fields))
        self.state, commands = step(self.state, event, now=self.now)
        return [told(command) for command in commands]

    def _event(self, kind: str, fields: dict[str, str]) -> Event:
        cls: Any = KINDS[kind]
        if cls is RunSubmitted:
            run = fields.pop("run", "r")
            asked = fields.pop("inject", "").split()
            hosts = {name: int(fields.pop(name, "1")) for name in ("hosts", "min_hosts")}
            injections = tuple(
                Injection(fault=InjectedFault(fault), step=int(step))
                for fault, step in (each.split("@") for each in asked)
            )
            policy = _policy(fields)
            _used_up(kind, fields)
            return RunSubmitted(
                run=run, name=run, spec=b"", policy=policy, injections=injections, **hosts
            )
        if cls is PolicyChanged:
            run, trial = fields.pop("run", "r"), fields.pop("trial", "") == "true"
            message = fields.pop("message", "").encode()
            policy = _policy(fields)
            _used_up(kind, fields)
            return PolicyChanged(run=run, policy=policy, message=message, trial=trial)
        if cls is LauncherAttached:
            live = [each.split(":") for each in fields.pop("trainers", "").split()]
            trainers = tuple(
                LiveTrainer(run=run, incarnation=int(number), pid=int(pid))
                for run, number, pid in live
            )
            host, instance = fields.pop("host", ""), fields.pop("instance", "L")
            return LauncherAttached(instance=instance, pid=1, trainers=trainers, host=host)
        run = fields.get("run", "r")
        known = self.state.runs.get(run)
        now = {"run": run, "incarnation": str(known.incarnation if known else 0)}
        host = fields.pop("host", "")
        event: Any = _nested(cls, {**now, **fields, **_named(cls, host)})
        _used_up(kind, {name: "" for name in fields if name not in _names(cls)})
        # A fault has a host too: the supervisor says which.
        if isinstance(event, FaultRaised):
            fault = dataclasses.replace(event.fault, host="")
            event = dataclasses.replace(event, fault=fault, host=host)
        return typing.cast(Event, event)


def told(command: Command) -> str:
    """One command, in one line."""
    match command:
        case StartTrainer():
            parts = f" parts={command.slot_parts}" if command.slot_parts else ""
            place = command.place
            gang = (
                f" as {place.process} of {place.processes} at {place.rendezvous}" if place else ""
            )
            return f"start {_whom(command)} slots={command.slots}{parts}{gang}"
        case StartCoordinator():
            return f"coordinate {_whom(command)} for {command.processes}"
        case StopCoordinator():
            return f"stop coordinating {_whom(command)}"
        case PrepareStandby():
            return f"prepare {_whom(command)}"
        case KillTrainer():
            after = " after its stacks" if command.collect_stacks else ""
            return f"kill {_whom(command)}{after}"
        case TellTrainer():
            return f"tell {_whom(command)} {_order(command.order)}"
        case StartTimer():
            return f"timer {command.key} {command.delay_s:g} s"
        case CancelTimer():
            return f"cancel {command.key}"
        case RemoveFiles():
            what = "what lies in memory" if command.memory_only else "files"
            return f"remove {what} of {command.run}{_at(command.host)}"
        case WriteIncident():
            return f"incident {command.number} of {command.run}{_at(command.host)}"
        case Record(event=RunStateChanged() as moved):
            before = moved.before.value if moved.before else "–"
            return f"{moved.run}: {before} → {moved.after.value} ({moved.reason})"
        case Record(event=DecisionMade() as made):
            after = f" after {made.decision.delay_s:g} s" if made.decision.delay_s else ""
            who = "on trial" if made.trial else "decide"
            under = f" under policy {made.policy_version}" if made.policy_version else ""
            fault = made.fault.fault_class.value
            return (
                f"{who} {made.run} {made.incarnation}{_at(made.host)}{under}: {fault} → "
                f"{made.decision.action.value}{after} ({made.decision.reason})"
            )
        case Record(event=EventIgnored() as ignored):
            return f"ignore {ignored.kind} of {ignored.run} ({ignored.reason})"
        case _:
            raise AssertionError(command)


def _whom(
    command: StartTrainer
    | StartCoordinator
    | StopCoordinator
    | PrepareStandby
    | KillTrainer
    | TellTrainer,
) -> str:
    return f"{command.run} {command.incarnation}{_at(command.host)}"


def _at(host: str) -> str:
    return f" on {host}" if host else ""


def _order(order: Order) -> str:
    match order:
        case Pause() | Resume():
            return type(order).__name__.lower()
        case Save(request_id=request_id):
            return f"save {request_id}"
        case Stop(save=save, reason=reason):
            return f"stop {'with' if save else 'without'} a save, {reason.value}"
        case SetPolicy(message=message, version=version):
            return f"policy {version}: {message.decode()}"
        case Inject(armed=armed):
            been = ",".join(map(str, armed.batches))
            fault = armed.injection.fault.value
            return f"inject {armed.number} {fault}" + (f", not at {been}" if been else "")
        case Decision(action=action, answers=question):
            back = f" by {order.rollback_steps} steps" if order.rollback_steps else ""
            return f"decision {action.value}{back}" + (
                f" of question {question}" if question else ""
            )


def _named(cls: Any, host: str) -> dict[str, str]:
    return {"host": host} if "host" in _names(cls) else {}


def _policy(fields: dict[str, str]) -> Policy:
    """A policy from its own fields and from those of its rules."""
    rules = dict(DEFAULT_RULES)
    for name in [name for name in fields if "." in name]:
        kind, _, field = name.partition(".")
        rule = rules[FaultClass(kind)]
        hint = typing.get_type_hints(type(rule))[field]
        rules[FaultClass(kind)] = dataclasses.replace(
            rule, **{field: _value(hint, fields.pop(name))}
        )
    return dataclasses.replace(typing.cast(Policy, _nested(Policy, fields)), rules=rules)


def _field(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value or "true"


def _nested(cls: Any, fields: dict[str, str]) -> object:
    """A dataclass from the fields that it, or a dataclass in it, knows."""
    values = {}
    for name, hint in typing.get_type_hints(cls).items():
        if hint in _NESTED:
            values[name] = _nested(hint, fields)
        elif name in fields:
            values[name] = _value(hint, fields.pop(name))
    return cls(**values)


def _value(hint: Any, text: str) -> object:
    if isinstance(hint, types.UnionType):
        hint = typing.get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(text)
    if hint is bool:
        return text == "true"
    if hint == tuple[str, ...]:
        return tuple(text.split(","))
    if hint == tuple[RejectedCheckpoint, ...]:
        return tuple(_rejected(*each.split(":")) for each in text.split(","))
    return hint(text)


def _rejected(step: str, path: str, reason: str, problem: str) -> RejectedCheckpoint:
    return RejectedCheckpoint(step=int(step), path=path, reason=reason, problem=problem)


def _names(cls: Any) -> set[str]:
    names = set()
    for field in dataclasses.fields(cls):
        hint = typing.get_type_hints(cls)[field.name]
        names |= _names(hint) if hint in _NESTED else {field.name}
    return names


def _used_up(kind: str, fields: dict[str, str]) -> None:
    if fields:
        raise ValueError(f"{kind} has no {', '.join(fields)}")
