"""The state that callbacks see: it owns what it holds, and they may change two things."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from trainerd.actors.callbacks import (
    Callback,
    CallbackRunner,
    CallbackSignal,
    StateOwner,
    StateWriteError,
    TrainingState,
)
from trainerd.actors.loggers import MetricError


def test_o01_the_state_owns_its_fields() -> None:
    given = {"loss": 1.0}
    state = TrainingState(epoch=2, step=7, learning_rate=0.1, metrics=given, should_stop=True)
    given["loss"] = 9.0
    assert (state.epoch, state.step, state.learning_rate) == (2, 7, 0.1)
    assert dict(state.metrics) == {"loss": 1.0}
    assert state.should_stop is True


@pytest.mark.parametrize("copied", [TrainingState.copy, copy.copy, copy.deepcopy])
def test_o01_a_copy_shares_nothing(copied) -> None:
    owner = StateOwner(step=3)
    owner.update(metrics={"loss": 1.0})
    kept = copied(owner.state)
    owner.state.metrics["loss"] = 2.0
    owner.update(step=4)
    kept.metrics["mine"] = 5.0
    assert (kept.step, dict(kept.metrics)) == (3, {"loss": 1.0, "mine": 5.0})
    assert dict(owner.state.metrics) == {"loss": 2.0}


def test_o01_no_reference_to_what_the_owner_was_given_escapes() -> None:
    owner = StateOwner()
    given = {"loss": np.float32(1.5)}
    owner.update(metrics=given)
    given["loss"] = np.float32(9.0)
    given["other"] = np.float32(1.0)
    assert dict(owner.state.metrics) == {"loss": 1.5}
    assert type(owner.state.metrics["loss"]) is float


def test_o02_the_state_lives_as_long_as_its_loop() -> None:
    owner = StateOwner()
    owner.update(step=1, metrics={"loss": 1.0})
    runner = CallbackRunner([])
    with runner.session(owner):
        metrics = owner.state.metrics
        metrics["seen"] = 1.0
    assert (owner.state.step, dict(owner.state.metrics)) == (1, {"loss": 1.0, "seen": 1.0})
    with pytest.raises(StateWriteError, match="after the training loop had ended"):
        owner.state.should_stop = True
    with pytest.raises(StateWriteError, match=r"keep state\.copy\(\)"):
        metrics["late"] = 1.0
    with pytest.raises(StateWriteError, match="ended"):
        del metrics["seen"]
    assert "lifetime is the loop's" in str(TrainingState.__doc__)
    kept = owner.state.copy()
    kept.metrics["late"] = 1.0


def test_o03_every_callback_sees_the_same_live_state_and_what_the_one_before_wrote() -> None:
    seen: list[tuple[int, float]] = []

    class Writes(Callback):
        def on_step_end(self, state: TrainingState) -> None:
            state.metrics["perplexity"] = math.exp(state.metrics["loss"])

    class Reads(Callback):
        def on_step_end(self, state: TrainingState) -> None:
            seen.append((id(state), state.metrics["perplexity"]))

    owner = StateOwner()
    runner = CallbackRunner([Writes(), Reads(), Reads()], on_error="raise")
    with runner.session(owner):
        for step in (1, 2):
            owner.update(step=step, metrics={"loss": float(step)})
            runner.step_end(owner)
    assert seen == [(id(owner.state), math.exp(step)) for step in (1.0, 1.0, 2.0, 2.0)]


def test_o04_there_are_two_signals() -> None:
    assert [signal.name for signal in CallbackSignal] == ["CONTINUE", "STOP"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("step", 5), ("epoch", 1), ("learning_rate", 0.5), ("metrics", {}), ("invented", 1)],
)
def test_o07_a_callback_writes_metrics_and_should_stop_and_nothing_else(field, value) -> None:
    class Meddler(Callback):
        def on_step_end(self, state: TrainingState) -> None:
            setattr(state, field, value)

    owner = StateOwner(epoch=0, step=1, learning_rate=0.1)
    owner.update(metrics={"loss": 1.0})
    failures = []
    runner = CallbackRunner([Meddler()], report=failures.append)
    with runner.session(owner):
        runner.step_end(owner)
    (failure,) = failures
    assert isinstance(failure.error, StateWriteError)
    assert (failure.error.field, failure.error.callback) == (field, "Meddler.on_step_end")
    assert f"Meddler.on_step_end may not write {field}" in str(failure.error)
    assert "state.metrics and state.should_stop" in str(failure.error)
    assert (owner.state.epoch, owner.state.step, owner.state.learning_rate) == (0, 1, 0.1)
    assert dict(owner.state.metrics) == {"loss": 1.0}
    with pytest.raises(StateWriteError, match="a callback may not write") as raised:
        setattr(owner.state, field, value)
    assert raised.value.callback == ""


def test_o07_fields_cannot_be_deleted_and_the_two_that_may_be_written_are_checked() -> None:
    state = TrainingState()
    with pytest.raises(StateWriteError, match="may not write step"):
        del state.step
    with pytest.raises(MetricError, match='metric "x" must be one real number, got float64'):
        state.metrics["x"] = np.ones(3)
    with pytest.raises(TypeError, match="name must be a string"):
        state.metrics[3] = 1.0
    with pytest.raises(TypeError, match="should_stop must be True or False, got 1"):
        state.should_stop = 1
    state.metrics["y"] = np.float32(0.5)
    del state.metrics["y"]
    state.should_stop = True
    assert (dict(state.metrics), state.should_stop) == ({}, True)


def test_the_owner_replaces_metrics_so_that_none_outlives_its_event() -> None:
    owner = StateOwner()
    owner.update(metrics={"loss": 1.0})
    owner.add_metrics({"val_loss": 2.0})
    assert dict(owner.state.metrics) == {"loss": 1.0, "val_loss": 2.0}
    owner.update(step=1, metrics={"loss": 0.5})
    assert dict(owner.state.metrics) == {"loss": 0.5}
    with pytest.raises(MetricError):
        owner.update(metrics={"loss": 0.1, "bad": "x"})
    assert dict(owner.state.metrics) == {"loss": 0.5}


@pytest.mark.parametrize("field", ["epoch", "step"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_impossible_counts_are_refused(field, value) -> None:
    with pytest.raises(ValueError, match=f"{field} must be an integer ≥ 0, got"):
        TrainingState(**{field: value})
    with pytest.raises(ValueError, match=f"{field} must be an integer ≥ 0, got"):
        StateOwner().update(**{field: value})
