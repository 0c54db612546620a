"""An explanation of a run's state, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainerd.clients.sentences import kind_of, phase_word, sentence, state_word
from trainerd.clients.wording import date_and_clock, duration, one_line, plural, printable, word
from trainerd.v1 import control_pb2, event_pb2, fault_pb2

_KIND_WIDTH = 20
_DETAIL_LINES = 12

_UPCOMING: Mapping[control_pb2.UpcomingKind, str] = {
    control_pb2.UPCOMING_KIND_RESTART: "a new trainer starts {when}",
    control_pb2.UPCOMING_KIND_ATTACH: "the trainer is killed {when} if it has not attached",
    control_pb2.UPCOMING_KIND_EXIT: "the trainer is killed {when} if it has not ended",
    control_pb2.UPCOMING_KIND_STOP: "the trainer is killed {when} if it has not stopped",
    control_pb2.UPCOMING_KIND_REAP: "the killed trainer counts as gone {when} at the latest",
    control_pb2.UPCOMING_KIND_MISSING: "the missing trainer counts as gone {when} at the latest",
    control_pb2.UPCOMING_KIND_DEVICES: "it starts when {run} has left the devices",
    control_pb2.UPCOMING_KIND_LAUNCHER: "it goes on when a launcher is linked",
    control_pb2.UPCOMING_KIND_HANG: (
        "the trainer counts as hung {when} if it makes no progress in phase {phase}"
    ),
    control_pb2.UPCOMING_KIND_CHECKPOINT: (
        "checkpoint.on_repeated_failure acts {when} if there is no new durable checkpoint"
    ),
    control_pb2.UPCOMING_KIND_RESUME: "it holds until somebody resumes it",
}


def explained(answer: control_pb2.ExplainRunResponse) -> list[str]:
    """State, reason, story, what happens next, budgets: a line each, with headings."""
    run = answer.run
    lines = [f"{one_line(run.id)} is {state_word(run.state)}: {one_line(run.reason)}"]
    lines += _section("what happened", _story(answer))
    lines += _section("what happens next", [_upcoming(each) for each in answer.upcoming])
    return lines + _section("used up", list(_budgets(answer)))


def _section(heading: str, lines: list[str]) -> list[str]:
    return ["", f"{heading}:", *(f"  {line}" for line in lines)] if lines else []


def _story(answer: control_pb2.ExplainRunResponse) -> list[str]:
    lines = []
    for event in answer.story:
        lines.append(
            f"{date_and_clock(event.time)}  {kind_of(event):<{_KIND_WIDTH}}  {sentence(event)}"
        )
        lines += [f"    | {line}" for line in _evidence(event)]
    return lines


def _evidence(event: event_pb2.Event) -> list[str]:
    """The end of a traceback: what was raised, and where."""
    detail = event.fault_raised.fault.detail
    return printable(detail).rstrip().splitlines()[-_DETAIL_LINES:]


def _upcoming(upcoming: control_pb2.Upcoming) -> str:
    text = _UPCOMING.get(upcoming.kind)
    if text is None:
        return "something newer than this trainerctl"
    when = f"in {duration(upcoming.in_s)}" if upcoming.HasField("in_s") else "some time"
    phase = phase_word(upcoming.phase)
    return text.format(when=when, run=one_line(upcoming.run), phase=phase)


def _budgets(answer: control_pb2.ExplainRunResponse) -> Iterator[str]:
    for use in answer.budgets:
        name = word(fault_pb2.FaultClass, "FAULT_CLASS_", getattr(use, "class"))
        limit = f"{use.used} of {use.limit}" if use.HasField("limit") else f"{use.used}"
        text = f"{name}: {limit} in {duration(use.window_s)}"
        if use.consecutive:
            text += f", {use.in_a_row} of {use.consecutive - 1} in a row"
        yield text
    if answer.cycles:
        newest = answer.run.durable_step
        since = f"since step {newest:,} was saved" if newest >= 0 else "without anything saved"
        cycles = plural(answer.cycles, "restart")
        if answer.run.rollbacks:
            cycles = f"{answer.cycles:,} restarts and rollbacks"
        yield f"{cycles} {since}; {answer.max_cycles} are allowed"
