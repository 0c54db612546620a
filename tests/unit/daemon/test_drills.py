"""Faults on purpose: what is drawn from a schedule, and everything that can be wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from trainerd.daemon import codec
from trainerd.daemon.drill_problems import injection_problems
from trainerd.daemon.drills import MAX_INJECTIONS, expanded
from trainerd.daemon.supervision.drills import InjectedFault
from trainerd.daemon.supervision.events import RunSubmitted
from trainerd.daemon.validation import problems_of
from trainerd.v1 import inject_pb2, run_pb2

DRAWN = [(33, 2), (55, 13), (58, 12), (59, 2)]


def spec(steps: int = 1000, **inject: Any) -> run_pb2.RunSpec:
    document = {
        "name": "a",
        "entry": "m:f",
        "train": {"steps": steps, "globalBatch": 8, "microbatch": 2},
        "inject": inject,
    }
    return json_format.ParseDict(document, run_pb2.RunSpec())


def schedule(mean_steps: float = 20, seed: int = 7, *faults: str) -> dict[str, Any]:
    names = faults or ("SIGKILL", "EXIT", "SLOW_STEP", "NAN")
    return {
        "faults": [f"INJECTED_FAULT_{name}" for name in names],
        "meanSteps": mean_steps,
        "seed": seed,
    }


def test_the_same_seed_draws_the_same_faults_everywhere() -> None:
    first = expanded(spec(schedule=schedule()))

    assert first == expanded(spec(schedule=schedule()))
    assert first != expanded(spec(schedule=schedule(seed=8)))
    # Written down: a journal that is replayed by a later release must give the same.
    assert [(each.step, each.fault) for each in first[:4]] == DRAWN


@pytest.mark.parametrize("mean_steps", [2.0**60, 1.7e308])
def test_a_mean_beyond_every_run_draws_nothing(mean_steps: float) -> None:
    wanted = spec(10**9, schedule=schedule(mean_steps))

    assert expanded(wanted) == []
    assert problems_of(wanted) == problems_of(spec(10**9, schedule=schedule(1e15)))


def test_faults_come_about_every_so_many_steps_and_are_complete() -> None:
    drawn = expanded(spec(20_000, schedule=schedule()))
    steps = [each.step for each in drawn]
    gaps = [after - before for before, after in zip([0, *steps], steps, strict=False)]

    assert all(1 <= gap <= 39 for gap in gaps)
    assert 900 < len(drawn) < 1100
    assert {each.fault for each in drawn} == {2, 9, 12, 13}
    assert not problems_of(spec(10_000, schedule=schedule()))
    for each in drawn[:50]:
        assert list(injection_problems("i", each)) == []


def test_those_of_the_file_come_first_and_every_step_is_within_the_run() -> None:
    mine = {"fault": "INJECTED_FAULT_HANG", "step": 3}
    every = expanded(spec(100, faults=[mine], schedule=schedule(1)))

    assert every[0].fault == inject_pb2.INJECTED_FAULT_HANG
    assert [each.step for each in every[1:]] == list(range(1, 101))


def test_a_submission_and_its_replay_have_the_same_injections() -> None:
    wanted = spec(schedule=schedule(), faults=[{"fault": "INJECTED_FAULT_NAN", "probability": 0.5}])
    event = codec.submission("a-1", wanted, "")

    assert event.injections[0].fault is InjectedFault.NAN
    assert len(event.injections) > 20
    again = codec.decode(codec.encode(event))
    assert isinstance(again, RunSubmitted)
    assert again.injections == event.injections


@pytest.mark.parametrize(
    ("injection", "field", "message"),
    [
        ({"step": 1}, "fault", 'must be one of "exception", "nan", "loss_spike"'),
        ({"fault": 99, "step": 1}, "fault", "got 99"),
        ({"fault": 1}, "step", "is missing: nothing says when it happens"),
        ({"fault": 1, "step": 1, "probability": 0.5}, "probability", "cannot be given together"),
        ({"fault": 1, "step": -1}, "step", "must be ≥ 1, got -1"),
        ({"fault": 1, "probability": 1.5}, "probability", "above 0 and at most 1, got 1.5"),
        ({"fault": 1, "probability": "NaN"}, "probability", "above 0 and at most 1, got nan"),
        ({"fault": 1, "step": 1, "slots": [0]}, "slots", 'only for the faults "nan"'),
        ({"fault": 2, "step": 1, "slots": [4]}, "slots[0]", "must be 0 to 3, got 4"),
        ({"fault": 2, "step": 1, "slots": [1, 1]}, "slots", "names a slot twice"),
        ({"fault": 1, "step": 1, "times": 1001}, "times", "must be 0 to 1000, got 1001"),
        ({"fault": 13, "step": 1}, "seconds", "must be above 0 and at most 3600, got 0"),
        ({"fault": 1, "step": 1, "seconds": 2}, "seconds", 'only for the fault "slow_step"'),
        ({"fault": 12, "step": 1, "exitCode": 256}, "exit_code", "must be 0 to 255, got 256"),
        ({"fault": 1, "step": 1, "exitCode": 2}, "exit_code", 'only for the fault "exit"'),
        ({"fault": 1, "step": 1, "seed": -1}, "seed", "must be ≥ 0, got -1"),
    ],
)
def test_each_mistake_is_told_with_its_key_path(
    injection: dict[str, Any], field: str, message: str
) -> None:
    good = {"fault": "INJECTED_FAULT_NAN", "step": 5, "slots": [3]}
    (problem,) = problems_of(spec(faults=[good, injection]))

    assert problem.field == f"inject.faults[1].{field}"
    assert problem.message.startswith(problem.field)
    assert message in problem.message


@pytest.mark.parametrize(
    ("wanted", "field", "message"),
    [
        ({"meanSteps": 5}, "faults", "must name at least one fault"),
        ({"faults": [0, 1], "meanSteps": 5}, "faults[0]", "it is missing"),
        ({"faults": [1], "meanSteps": 0.5}, "mean_steps", "must be ≥ 1, got 0.5"),
        ({"faults": [1], "meanSteps": "Infinity"}, "mean_steps", "must be ≥ 1, got inf"),
        ({"faults": [1], "meanSteps": 5, "seed": -2}, "seed", "must be ≥ 0, got -2"),
        ({"faults": [1], "meanSteps": 1}, "mean_steps", "asks for more than 1000 faults in all"),
    ],
)
def test_each_mistake_of_a_schedule_is_told(
    wanted: dict[str, Any], field: str, message: str
) -> None:
    (problem,) = problems_of(spec(100_000, schedule=wanted))

    assert problem.field == f"inject.schedule.{field}"
    assert message in problem.message


def test_all_mistakes_are_told_at_once_and_too_many_faults_are_one() -> None:
    bad = [{"fault": 1}, {"fault": 99, "step": 1}]
    fields = [each.field for each in problems_of(spec(faults=bad, schedule={"meanSteps": 0}))]
    assert fields == [
        "inject.faults[0].step",
        "inject.faults[1].fault",
        "inject.schedule.faults",
        "inject.schedule.mean_steps",
    ]
    many = [{"fault": 1, "step": 1}] * (MAX_INJECTIONS + 1)
    (problem,) = problems_of(spec(faults=many))
    assert problem.field == "inject.faults"


def test_now_is_as_good_as_a_step_where_a_run_lives() -> None:
    injection = inject_pb2.Injection(fault=inject_pb2.INJECTED_FAULT_HANG)

    assert list(injection_problems("injection", injection, now=True)) == []
    assert len(list(injection_problems("injection", injection))) == 1
