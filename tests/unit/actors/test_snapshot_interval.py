"""How often snapshots are taken: what they may cost, and what crashes make of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainerd.actors.snapshot_interval import CRASHING_SHARE, HEALTHY_SHARE, Pace, every_steps

SECONDS = st.floats(min_value=1e-6, max_value=1e3)


def test_a_healthy_run_pays_one_percent() -> None:
    assert every_steps(cost_s=0.03, step_s=0.5) == 6
    assert every_steps(cost_s=0.0003, step_s=0.001) == 30


def test_a_snapshot_that_costs_next_to_nothing_is_taken_after_each_step() -> None:
    assert every_steps(cost_s=0.0, step_s=1.0) == 1
    assert every_steps(cost_s=0.001, step_s=10.0) == 1


def test_after_crashes_the_interval_is_young_and_dalys() -> None:
    assert every_steps(cost_s=1.0, step_s=0.1, crash_every_s=1250.0) == 500


def test_frequent_crashes_are_no_reason_to_pay_more_than_five_percent() -> None:
    assert every_steps(cost_s=1.0, step_s=0.5, crash_every_s=15.0) == 40


def test_rare_crashes_are_no_reason_to_take_fewer_than_without() -> None:
    assert every_steps(cost_s=1.0, step_s=1.0, crash_every_s=1e9) == 100


@given(cost_s=SECONDS, step_s=SECONDS, crash_every_s=st.one_of(st.just(0.0), SECONDS))
def test_the_share_is_within_its_limits(cost_s: float, step_s: float, crash_every_s: float) -> None:
    every = every_steps(cost_s=cost_s, step_s=step_s, crash_every_s=crash_every_s)
    share = cost_s / (every * step_s)
    most = CRASHING_SHARE if crash_every_s else HEALTHY_SHARE
    assert every >= 1
    assert share <= most * (1 + 1e-9)
    # And not one step later than needed.
    assert every <= math.ceil(cost_s / step_s / HEALTHY_SHARE * (1 + 1e-9))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"cost_s": -1.0}, "cost_s must be ≥ 0"),
        ({"cost_s": math.nan}, "cost_s must be ≥ 0"),
        ({"step_s": 0.0}, "step_s must be > 0"),
        ({"crash_every_s": math.inf}, "crash_every_s must be ≥ 0"),
    ],
)
def test_impossible_numbers_are_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        every_steps(**{"cost_s": 1.0, "step_s": 1.0, **wrong})


def test_nothing_is_said_before_steps_are_measured() -> None:
    pace = Pace(expected_cost_s=0.01)
    for _ in range(4):
        pace.stepped(0.1)
    assert pace.every == 0
    pace.stepped(0.1)
    assert pace.every == 10


def test_what_a_snapshot_really_cost_takes_the_place_of_what_was_expected() -> None:
    pace = Pace(expected_cost_s=0.01)
    for _ in range(5):
        pace.stepped(0.1)
    assert pace.every == 10
    pace.took(0.04)
    assert pace.every == 40


def test_one_slow_step_or_copy_changes_nothing() -> None:
    pace = Pace(expected_cost_s=0.01)
    for duration_s in (0.1, 0.1, 9.0, 0.1, 0.1):
        pace.stepped(duration_s)
    for cost_s in (0.01, 5.0, 0.01):
        pace.took(cost_s)
    assert pace.every == 10


def test_the_interval_follows_steps_that_become_slower() -> None:
    pace = Pace(expected_cost_s=0.01)
    for duration_s in [0.1] * 5 + [1.0] * 31:
        pace.stepped(duration_s)
    pace.took(0.01)
    assert pace.every == 1


def test_steps_too_short_to_measure_are_no_error() -> None:
    pace = Pace(expected_cost_s=0.001)
    for _ in range(5):
        pace.stepped(0.0)
    assert pace.every == pytest.approx(100_000, rel=1e-3)
