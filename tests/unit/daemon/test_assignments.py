"""What a trainer is told of the crashes before it."""

from __future__ import annotations

from trainerd.daemon.assignments import between_crashes_s
from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.policy import FaultClass, Policy
from trainerd.daemon.supervision.state import Run

NOW = 1000.0


def run(*crashed_at: float) -> Run:
    budgets = Budgets(windows={FaultClass.CRASH: crashed_at})
    return Run(id="r", name="r", order=1, policy=Policy(), budgets=budgets)


def test_the_time_between_crashes_is_that_of_the_policys_window() -> None:
    assert between_crashes_s(run(), NOW) == 0.0
    assert between_crashes_s(run(900.0), NOW) == 600.0
    assert between_crashes_s(run(500.0, 900.0, 999.0), NOW) == 200.0


def test_a_crash_long_ago_does_not_count() -> None:
    assert between_crashes_s(run(100.0), NOW) == 0.0
