"""Profiles of a live run: begun and ended where a step has landed, and never its undoing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakes.launcher_process import wait_until
from fakes.tracing import FakeTracing
from trainerd.actors.trainer.profiling import MAX_STEPS, Profiled, Profiler, Wanted


@dataclass
class Desk:
    below: Path
    tracing: FakeTracing = field(default_factory=FakeTracing)
    told: list[Profiled] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.profiler = Profiler(self.below, self.told.append, self.tracing)

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            self.profiler.stepped(step)

    def one(self) -> Profiled:
        wait_until(lambda: self.told, "an answer")
        (answer,) = self.told
        return answer


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "profiles")


def test_so_many_steps_are_traced_and_the_place_is_told(desk: Desk) -> None:
    desk.steps(1, 4)
    assert desk.tracing.calls == []
    desk.profiler.ask(Wanted(request_id="a", steps=3))
    desk.steps(5, 7)
    assert desk.tracing.calls == ["start"]
    desk.steps(8, 12)
    answer = desk.one()
    assert (answer.request_id, answer.step, answer.steps, answer.problem) == ("a", 6, 3, "")
    assert desk.tracing.calls == ["start", "stop"]
    assert Path(answer.path) == desk.tracing.directories[0]
    assert Path(answer.path).is_relative_to(desk.below)
    assert Path(answer.path).is_dir()


def test_a_profile_may_go_elsewhere(desk: Desk, tmp_path: Path) -> None:
    desk.profiler.ask(Wanted(request_id="a", steps=1, directory=str(tmp_path / "my" / "place")))
    desk.steps(1, 2)
    assert desk.one().path == str(tmp_path / "my" / "place")


@pytest.mark.parametrize("fails", ["start", "stop"])
def test_a_tracer_that_fails_is_told_of_and_the_run_goes_on(desk: Desk, fails: str) -> None:
    desk.tracing.fails = fails
    desk.profiler.ask(Wanted(request_id="a", steps=1))
    desk.steps(1, 10)
    answer = desk.one()
    assert answer.request_id == "a"
    assert ("no tracer" if fails == "start" else "No space left on device") in answer.problem
    # The next one is tried all the same.
    desk.tracing.fails = ""
    desk.profiler.close()
    desk.profiler.ask(Wanted(request_id="b", steps=1))
    desk.steps(11, 12)
    wait_until(lambda: len(desk.told) == 2, "the second answer")
    assert desk.told[1].problem == ""


@pytest.mark.parametrize("steps", [0, -1, MAX_STEPS + 1])
def test_the_number_of_steps_is_bounded(desk: Desk, steps: int) -> None:
    desk.profiler.ask(Wanted(request_id="a", steps=steps))
    desk.steps(1, 2)
    assert f"1 to {MAX_STEPS}" in desk.one().problem
    assert desk.tracing.calls == []


def test_a_relative_place_is_refused(desk: Desk) -> None:
    desk.profiler.ask(Wanted(request_id="a", steps=1, directory="here"))
    desk.steps(1, 1)
    assert "absolute" in desk.one().problem


def test_a_run_that_is_held_ends_the_trace_with_the_steps_it_has(desk: Desk) -> None:
    desk.profiler.ask(Wanted(request_id="a", steps=100))
    desk.steps(1, 4)
    desk.profiler.cut("the run was paused")
    answer = desk.one()
    assert (answer.step, answer.steps, answer.problem) == (2, 3, "")


def test_a_request_that_has_not_begun_is_answered_when_no_steps_come(desk: Desk) -> None:
    desk.profiler.ask(Wanted(request_id="a", steps=1))
    desk.profiler.cut("the run was paused")
    assert desk.one() == Profiled(request_id="a", problem="the run was paused")


def test_a_newer_request_takes_the_place_of_one_that_waits_and_a_repeated_one_does_not(
    desk: Desk,
) -> None:
    first, second = Wanted(request_id="a", steps=1), Wanted(request_id="b", steps=1)
    desk.profiler.ask(first)
    desk.profiler.ask(first)
    assert desk.told == []
    desk.profiler.ask(second)
    assert desk.one().request_id == "a"
    desk.steps(1, 2)
    wait_until(lambda: len(desk.told) == 2, "the second answer")
    # Sent again after the link was lost: it is answered already.
    desk.profiler.ask(second)
    desk.steps(3, 6)
    assert desk.tracing.calls == ["start", "stop"]


def test_the_next_trace_waits_until_the_last_is_written(tmp_path: Path) -> None:
    written = threading.Event()

    class Slow(FakeTracing):
        def stop(self) -> None:
            super().stop()
            assert written.wait(20)

    desk = Desk(tmp_path, tracing=Slow())
    desk.profiler.ask(Wanted(request_id="a", steps=1))
    desk.steps(1, 2)
    desk.profiler.ask(Wanted(request_id="b", steps=1))
    desk.steps(3, 6)
    assert desk.tracing.calls == ["start", "stop"]
    written.set()
    desk.one()
    desk.profiler.close()
    # Closing has answered the one that waited.
    assert [(each.request_id, bool(each.problem)) for each in desk.told] == [
        ("a", False),
        ("b", True),
    ]
