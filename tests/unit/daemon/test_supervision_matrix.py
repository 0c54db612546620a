"""The fault table that people read says what the supervisor does."""

from __future__ import annotations

import re

import pytest

import fault_table
from trainerd.daemon.supervision import matrix
from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.decision import decide, suppose
from trainerd.daemon.supervision.faults import Fault
from trainerd.daemon.supervision.policy import (
    ALLOWED_ACTIONS,
    DEFAULT_RULES,
    DELEGABLE,
    Action,
    FaultClass,
    Policy,
)
from trainerd.daemon.supervision.state import EDGES

# What other events than a fault lead to.
NO_FAULT = {
    FaultClass.PREEMPTION,
    FaultClass.VOLUNTARY,
    FaultClass.NO_PROGRESS,
    FaultClass.DAEMON_CRASH,
    FaultClass.JOURNAL_FULL,
}


def bold(text: str) -> list[Action]:
    return [Action(word) for word in re.findall(r"\*\*(\w+)\*\*", text)]


def test_every_class_has_its_row_in_order() -> None:
    assert list(matrix.MATRIX) == list(FaultClass)
    assert [row.number for row in matrix.MATRIX.values()] == [f"F{n}" for n in range(1, 19)]
    assert all(row.evidence for row in matrix.MATRIX.values())


@pytest.mark.parametrize("fault_class", [each for each in FaultClass if each not in NO_FAULT])
def test_the_action_that_is_told_is_the_one_that_is_taken(fault_class: FaultClass) -> None:
    told = bold(matrix.action_of(fault_class))
    fault = Fault(fault_class=fault_class, message="m", batch=3)
    taken = [
        decide(Policy(), Budgets(), fault, now=0.0, trained=trained).action
        for trained in (False, True)
    ]

    assert set(taken) <= set(told)
    assert taken[0] is told[0]


@pytest.mark.parametrize("fault_class", sorted(DELEGABLE, key=lambda each: each.value))
def test_what_follows_a_spent_budget_is_told(fault_class: FaultClass) -> None:
    told = bold(matrix.recurrence_of(fault_class))
    fault = Fault(fault_class=fault_class, message="m", awaits_decision=True)
    rolled = Budgets().rolled_back(fault_class, from_step=0, now=0.0)
    taken = [
        decide(Policy(), budgets, each, now=1.0, trained=True).action
        for each, budgets in (
            (fault, Budgets()),
            (Fault(**{**_fields(fault), "delegated": Action.SKIP}), Budgets()),
            (Fault(**{**_fields(fault), "delegated": Action.SKIP}), rolled),
        )
    ]

    assert list(dict.fromkeys(taken)) == told


def _fields(fault: Fault) -> dict[str, object]:
    return {name: getattr(fault, name) for name in ("fault_class", "message", "awaits_decision")}


@pytest.mark.parametrize(
    "fault_class", [each for each in DEFAULT_RULES if each not in (FaultClass.DEVICE_OOM,)]
)
def test_the_budget_that_is_told_is_the_one_that_is_kept(fault_class: FaultClass) -> None:
    told = matrix.budget_of(fault_class, cycles=3)
    numbers = re.match(r"(\d+) in (\d+) s", told)
    if numbers is None:
        assert told.startswith("none")
        return
    limit, window_s = int(numbers[1]), float(numbers[2])
    fault = Fault(fault_class=fault_class, message="m")
    of = (fault_class, None) if fault_class is FaultClass.HANG else fault_class

    def action(before: int, now: float) -> Action:
        budgets = Budgets(windows={of: (0.0,) * before})
        return suppose(Policy(), budgets, fault, now=now, trained=True).action

    first = action(0, 0.0)
    assert action(limit - 1, window_s - 1) is first
    assert action(limit, window_s - 1) is not first
    assert action(limit, window_s) is first


def test_the_document_names_every_class_edge_and_choice() -> None:
    text = fault_table.text()

    for fault_class in FaultClass:
        assert f"| `{fault_class.value}`{' ✎' * (fault_class in ALLOWED_ACTIONS)} |" in text
    drawn = set(re.findall(r"^    ([A-Z]+) --> ([A-Z]+)$", text, re.MULTILINE))
    assert drawn == {(before.name, after.name) for before in EDGES for after in EDGES[before]}
    assert "- `non_finite_step`: skip, rollback, fail\n" in text


def test_a_stale_document_is_told(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "faults.md"  # type: ignore[operator]
    monkeypatch.setattr(fault_table, "TARGET", target)
    monkeypatch.setattr("sys.argv", ["fault_table.py", "--check"])
    assert fault_table.main() == 1
    assert "stale" in capsys.readouterr().out
    target.write_text(fault_table.text())
    assert fault_table.main() == 0
