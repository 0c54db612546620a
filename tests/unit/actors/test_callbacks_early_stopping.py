"""Ending a run that has stopped improving."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from trainerd.actors.callbacks import (
    CallbackError,
    CallbackRunner,
    CallbackSignal,
    EarlyStopping,
    StateOwner,
)

NAN, INF = math.nan, math.inf


class Access:
    """Lends a state that is a number."""

    def __init__(self) -> None:
        self.now = 0
        self.captured: list[int] = []
        self.restored: list[object] = []
        self.broken = False

    def save(self, path: Path, done: Any) -> None:
        raise AssertionError("nothing is saved")

    def capture(self) -> object:
        if self.broken:
            raise MemoryError("no room for a copy")
        self.captured.append(self.now)
        return self.now

    def restore(self, captured: object) -> None:
        self.restored.append(captured)

    def faulted(self, fault: Any) -> None:
        raise AssertionError(fault)


def epochs(
    stopping: EarlyStopping, values: list[float | None], access: Access | None = None
) -> int | None:
    """Run one epoch a value; return the index of the epoch that stopped it."""
    owner = StateOwner()
    runner = CallbackRunner([stopping], on_error="raise", access=access)
    with runner.session(owner):
        for epoch, value in enumerate(values):
            metrics = {"loss": 0.5} | ({} if value is None else {"val_loss": value})
            owner.update(epoch=epoch, step=epoch + 1, metrics=metrics)
            if access is not None:
                access.now = epoch + 1
            if runner.epoch_end(owner) is CallbackSignal.STOP:
                return epoch
    return None


@pytest.mark.parametrize(
    ("mode", "values", "stops_at"),
    [
        ("min", [3.0, 2.0, 2.0, 2.0], 3),
        ("max", [3.0, 4.0, 4.0, 4.0], 3),
        ("min", [3.0, 2.0, 2.5, 1.9, 1.8, 1.7], None),
        ("max", [1.0, 0.5, 1.5, 1.0, 2.0], None),
        ("min", [1.0, 2.0, 3.0], 2),
    ],
)
def test_o13_it_stops_after_patience_observations_without_a_strict_improvement(
    mode, values, stops_at
) -> None:
    assert epochs(EarlyStopping("val_loss", patience=2, mode=mode), values) == stops_at


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_o13_an_improvement_is_more_than_min_delta(mode, sign) -> None:
    stopping = EarlyStopping("val_loss", patience=1, min_delta=0.25, mode=mode)
    assert epochs(stopping, [sign * 1.0, sign * 0.75]) == 1
    assert stopping.best == sign * 1.0
    assert epochs(stopping, [sign * 1.0, sign * 0.5, sign * 0.125]) is None
    assert stopping.best == sign * 0.125


def test_o13_the_sentinels_are_infinite_so_that_the_first_value_is_an_improvement() -> None:
    assert EarlyStopping("x", patience=1).best == INF
    assert EarlyStopping("x", patience=1, mode="max").best == -INF
    for value, mode in ((1e300, "min"), (-1e300, "max")):
        stopping = EarlyStopping("val_loss", patience=1, mode=mode)
        assert epochs(stopping, [value]) is None
        assert (stopping.best, stopping.best_step) == (value, 1)


def test_o13_where_the_metric_is_missing_no_patience_is_spent() -> None:
    stopping = EarlyStopping("val_loss", patience=2)
    assert epochs(stopping, [1.0, None, None, None, 1.0, None, None, 1.0]) == 7
    assert stopping.stopped_step == 8


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_o13_a_value_that_is_not_finite_is_no_improvement_and_costs_patience(mode, value) -> None:
    stopping = EarlyStopping("val_loss", patience=2, mode=mode)
    assert epochs(stopping, [value, value]) == 1
    stopping = EarlyStopping("val_loss", patience=2, mode=mode)
    assert epochs(stopping, [1.0, value, value]) == 2
    assert stopping.best == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "auto"}, 'mode must be "min" or "max", got \'auto\''),
        ({"patience": 0}, "patience must be an integer ≥ 1, got 0"),
        ({"patience": -1}, "patience must be an integer ≥ 1, got -1"),
        ({"patience": 1.5}, "patience must be an integer ≥ 1, got 1.5"),
        ({"patience": True}, "patience must be an integer ≥ 1, got True"),
        ({"min_delta": -0.1}, "min_delta must be finite and ≥ 0, got -0.1"),
        ({"min_delta": NAN}, "min_delta must be finite and ≥ 0, got nan"),
        ({"unit": "batch"}, 'unit must be "epoch" or "step", got \'batch\''),
        ({"monitor": ""}, "monitor must name a metric, got ''"),
    ],
)
def test_o13_bad_arguments_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**{"monitor": "val_loss", "patience": 1, **change})


def test_o13_restore_best_asks_for_the_state_of_the_best_value() -> None:
    access = Access()
    stopping = EarlyStopping("val_loss", patience=2, restore_best=True)
    assert epochs(stopping, [3.0, 1.0, 2.0, 2.0], access) == 3
    assert access.captured == [1, 2]
    assert access.restored == [2]


def test_o13_restore_best_asks_for_nothing_if_the_last_state_is_the_best_or_none_was() -> None:
    for values in ([3.0, 2.0], [None], [NAN]):
        access = Access()
        epochs(EarlyStopping("val_loss", patience=2, restore_best=True), values, access)
        assert access.restored == []


def test_o13_a_best_value_whose_state_could_not_be_kept_is_not_remembered() -> None:
    access = Access()
    access.broken = True
    stopping = EarlyStopping("val_loss", patience=2, restore_best=True)
    with pytest.raises(CallbackError, match="no room for a copy"):
        epochs(stopping, [3.0], access)
    assert stopping.best == INF


def test_o13_restore_best_without_a_loop_that_lends_its_state_is_said_at_the_beginning() -> None:
    with pytest.raises(CallbackError, match="needs a loop that lends it the train state"):
        epochs(EarlyStopping("val_loss", patience=2, restore_best=True), [])


def test_o13_steps_can_be_observed_instead_of_epochs() -> None:
    owner = StateOwner()
    stopping = EarlyStopping("loss", patience=2, unit="step", restore_best=True)
    runner = CallbackRunner([stopping], on_error="raise", access=Access())
    assert runner.needs_rest(3)
    assert not CallbackRunner([EarlyStopping("loss", patience=2, unit="step")]).needs_rest(3)
    with runner.session(owner):
        signals = []
        for step, loss in enumerate([1.0, 1.0, 1.0]):
            owner.update(step=step, metrics={"loss": loss})
            assert runner.epoch_end(owner) is CallbackSignal.CONTINUE
            signals.append(runner.step_end(owner))
    assert signals == [CallbackSignal.CONTINUE, CallbackSignal.CONTINUE, CallbackSignal.STOP]


def test_o13_each_run_begins_afresh() -> None:
    stopping = EarlyStopping("val_loss", patience=2)
    assert epochs(stopping, [1.0, 5.0, 5.0]) == 2
    assert epochs(stopping, [4.0, 3.0, 3.5]) is None
    assert (stopping.best, stopping.spent, stopping.stopped_step) == (3.0, 1, -1)
