"""How many faults on purpose a run may have, and which of them a link begins with."""

from __future__ import annotations

from trainerd.daemon.supervision.commands import Command, Inject, Record, TellTrainer
from trainerd.daemon.supervision.drills import InjectedFault, Injection
from trainerd.daemon.supervision.events import (
    Event,
    EventIgnored,
    FaultInjected,
    InjectionRequested,
    LauncherAttached,
    RunSubmitted,
    TrainerAttached,
    TrainerDetached,
    TrainerExited,
)
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.policy import Policy
from trainerd.daemon.supervision.requests import MAX_INJECTIONS, MAX_PENDING_INJECTIONS
from trainerd.daemon.supervision.state import State
from trainerd.daemon.supervision.supervisor import step

ASKED = InjectionRequested(run="r", injection=Injection(fault=InjectedFault.NAN, step=5))


def submitted(injections: int = 0) -> RunSubmitted:
    drills = tuple(Injection(fault=InjectedFault.NAN, step=each + 1) for each in range(injections))
    return RunSubmitted(run="r", name="r", spec=b"", policy=Policy(), injections=drills)


def attached(incarnation: int = 1) -> TrainerAttached:
    return TrainerAttached(run="r", incarnation=incarnation, phase=Phase.STEP, step=1)


def play(*events: Event, state: State | None = None) -> tuple[State, tuple[Command, ...]]:
    state, commands = state or State(), ()
    for event in events:
        state, commands = step(state, event, now=0.0)
    return state, commands


def refusal(commands: tuple[Command, ...]) -> str:
    (record,) = commands
    assert isinstance(record, Record)
    assert isinstance(record.event, EventIgnored)
    return record.event.reason


def told(commands: tuple[Command, ...]) -> list[int]:
    return [
        each.order.armed.number
        for each in commands
        if isinstance(each, TellTrainer) and isinstance(each.order, Inject)
    ]


LINKED = LauncherAttached(instance="L", pid=1)
CUT = TrainerDetached(run="r", incarnation=1, reason="cut")


def test_a_link_begins_with_few_enough_for_its_mailbox() -> None:
    state, _ = play(LINKED, submitted(3), attached(), *[ASKED] * MAX_PENDING_INJECTIONS)
    _, commands = play(ASKED, state=state)
    assert refusal(commands) == "64 injections of run r have not happened yet"

    _, commands = play(CUT, attached(), state=state)
    assert told(commands) == list(range(4, 4 + MAX_PENDING_INJECTIONS))

    happened = FaultInjected(
        run="r", incarnation=1, injection=4, step=5, batch=5, fault=InjectedFault.NAN
    )
    _, commands = play(happened, ASKED, state=state)
    assert told(commands) == [4 + MAX_PENDING_INJECTIONS]


def test_a_new_process_knows_what_was_asked_for_before_it_was_started() -> None:
    state, _ = play(LINKED, submitted(), attached(), *[ASKED] * MAX_PENDING_INJECTIONS)
    gone = TrainerExited(run="r", incarnation=1, exit_code=3)
    state, commands = play(gone, attached(2), state=state)
    assert told(commands) == []

    state, commands = play(ASKED, state=state)
    assert told(commands) == [MAX_PENDING_INJECTIONS + 1]


def test_a_run_has_no_more_than_a_thousand() -> None:
    state, _ = play(submitted(MAX_INJECTIONS - 1), ASKED)
    assert len(state.runs["r"].injections) == MAX_INJECTIONS
    _, commands = play(ASKED, state=state)
    assert refusal(commands) == "run r has 1000 injections already"
