"""Runs in two parts: what is over costs the living nothing, and is found all the same."""

from __future__ import annotations

import pytest

from soak import simulation
from trainerd.daemon import state_codec
from trainerd.daemon.supervision.events import (
    Event,
    RunDeleted,
    RunState,
    RunSubmitted,
    StopRequested,
)
from trainerd.daemon.supervision.policy import Policy
from trainerd.daemon.supervision.runs import Runs
from trainerd.daemon.supervision.state import Run, State
from trainerd.daemon.supervision.supervisor import step


def submitted(name: str) -> RunSubmitted:
    return RunSubmitted(run=name, name=name, spec=b"", policy=Policy())


def after(*events: Event) -> State:
    state = State()
    for event in events:
        state, _ = step(state, event, now=0.0)
    return state


def parts(state: State) -> Runs:
    assert isinstance(state.runs, Runs)
    return state.runs


def test_an_event_of_a_living_run_neither_copies_nor_touches_those_that_are_over() -> None:
    before = after(submitted("a"), StopRequested(run="a"), submitted("b"))
    assert before.runs["a"].over
    later, _ = step(before, submitted("c"), now=1.0)

    assert list(parts(before).living) == ["b"]
    assert list(parts(later).living) == ["b", "c"]
    assert parts(later).over is parts(before).over


def test_a_run_that_ends_is_found_where_it_was_and_nowhere_twice() -> None:
    state = after(submitted("a"), submitted("b"), StopRequested(run="a"))

    assert state.runs["a"].state is RunState.STOPPED
    assert state.runs.get("nobody") is None
    assert list(state.runs) == ["b", "a"]
    assert len(state.runs) == 2


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_deleted_run_is_in_neither_part(name: str) -> None:
    state = after(submitted("a"), StopRequested(run="a"), submitted("b"), StopRequested(run="b"))
    state, _ = step(state, RunDeleted(run=name), now=1.0)

    assert name not in state.runs
    assert len(state.runs) == 1


def test_parts_are_made_of_any_mapping_and_are_equal_to_it() -> None:
    runs = {
        name: Run(id=name, name=name, order=order, policy=Policy(), state=state)
        for order, (name, state) in enumerate(
            {"a": RunState.FAILED, "b": RunState.QUEUED}.items(), start=1
        )
    }

    made = Runs.of(runs)
    assert list(made.over) == ["a"]
    assert made == runs
    assert Runs.of(made) is made


def test_a_state_that_was_written_and_read_goes_on_as_the_one_it_was() -> None:
    told = simulation.story(6, 1_200)
    state = simulation.replayed(told[:600])
    again = state_codec.decode(state_codec.encode(state))
    seen = 0
    for now, event in told[600:]:
        state, commands = step(state, event, now=now)
        again, commands_again = step(again, event, now=now)
        assert commands_again == commands
        seen += len(parts(state).over)
    assert again == state
    assert seen > 0
