"""Callbacks, epochs and validation under `Engine`: who is called when, and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from structlog.testing import capture_logs

from fakes import fitting, training
from trainerd.actors import (
    Callback,
    CallbackError,
    EarlyStopping,
    EndReason,
    Engine,
    EngineError,
    LoggingCallback,
    ModelCheckpoint,
    Plan,
    Validation,
)
from trainerd.actors.digest import state_digest
from trainerd.actors.program_loop import run_loop

pytestmark = pytest.mark.usefixtures("compiled_once")


class Raising(Callback):
    def __init__(self, hook: str) -> None:
        setattr(self, hook, self._raise)
        self.hook = hook

    def _raise(self, state: Any) -> None:
        raise RuntimeError("callback boom")

    def on_step_end(self, state: Any) -> None:
        raise RuntimeError("callback boom")


def test_o05_o06_hooks_are_called_in_order_around_epochs_and_steps() -> None:
    seen = fitting.Recording()
    Engine(callbacks=[seen], epochs=2).fit(
        fitting.plain_step, fitting.batches(2), state=fitting.state()
    )
    epoch = ["epoch_begin", *["step_begin", "step_end"] * 2, "epoch_end"]
    assert seen.hooks == ["train_begin", *epoch, *epoch, "train_end"]
    assert [state.epoch for hook, state in seen.heard if hook == "epoch_begin"] == [0, 1]
    assert [state.step for hook, state in seen.heard if hook == "step_end"] == [1, 2, 3, 4]
    assert len({id(state) for _, state in seen.heard}) == len(seen.heard)


def test_o05_the_device_is_one_step_ahead_of_the_hooks() -> None:
    seen = fitting.Recording()
    Engine(callbacks=[seen]).fit(fitting.jitted_step, fitting.batches(3), state=fitting.state())
    assert seen.hooks[2:-2] == [
        "step_begin",
        "step_begin",
        "step_end",
        "step_begin",
        "step_end",
        "step_end",
    ]


@pytest.mark.parametrize(("step_fn", "late"), [(fitting.plain_step, 0), (fitting.jitted_step, 1)])
def test_x11_o04_a_stop_ends_the_run_in_good_order(step_fn: Any, late: int) -> None:
    seen, other = fitting.Recording(stop_at=3), fitting.Recording()
    engine = Engine(callbacks=[seen, other])
    final = engine.fit(step_fn, fitting.batches(9), state=fitting.state())
    assert int(final.step) == 3 + late
    assert engine.result.reason is EndReason.STOPPED_BY_CALLBACK
    assert engine.result.stopped_by == "Recording"
    assert seen.hooks.count("train_end") == 1
    assert seen.hooks[-2:] == ["epoch_end", "train_end"]
    assert other.hooks == seen.hooks


def test_x11_a_stop_before_the_first_step_trains_nothing() -> None:
    class Stop(Callback):
        def on_train_begin(self, state: Any) -> None:
            state.should_stop = True

    engine = Engine(callbacks=[Stop()])
    final = engine.fit(fitting.plain_step, fitting.batches(3), state=fitting.state())
    assert int(final.step) == 0
    assert engine.result.reason is EndReason.STOPPED_BY_CALLBACK


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()])
def test_x11_o06_on_train_end_runs_once_whatever_happens(error: BaseException) -> None:
    seen = fitting.Recording()

    def step(state: Any, batch: Any) -> Any:
        raise error

    with pytest.raises((EngineError, KeyboardInterrupt)):
        Engine(callbacks=[seen]).fit(step, [0], state=fitting.state())
    assert seen.hooks.count("train_end") == 1


def test_o12_w10_a_callback_that_raises_is_isolated_or_ends_the_run() -> None:
    log = fitting.Log()
    data = fitting.batches(3)
    with capture_logs():
        engine = Engine(callbacks=[Raising("on_step_end")], loggers=[log])
        final = engine.fit(fitting.plain_step, data, state=fitting.state())
    assert int(final.step) == 3
    assert engine.result.errors == {"callback": 3}
    assert log.named("training/callback_error")[0][1]["callback"] == "Raising"

    seen = fitting.Recording()
    strict = Engine(callbacks=[Raising("on_step_end"), seen], callback_errors="raise")
    with capture_logs(), pytest.raises(CallbackError, match=r"Raising\.on_step_end") as raised:
        strict.fit(fitting.jitted_step, data, state=fitting.state())
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert strict.result.reason is EndReason.FAILED
    assert seen.hooks.count("train_end") == 1
    # The step in flight is booked: the state that is left is that of the count.
    assert strict.result.steps == int(strict.state.step) == 2


def test_what_callbacks_write_into_metrics_reaches_the_loggers() -> None:
    class Adding(Callback):
        def on_step_end(self, state: Any) -> None:
            state.metrics["mine"] = state.step * 10

    log = fitting.Log()
    Engine(callbacks=[Adding()], loggers=[log]).fit(
        fitting.jitted_step, fitting.batches(3), state=fitting.state()
    )
    assert [metrics["mine"] for _, metrics in log.logged] == [10, 20, 30]


def measure(state: Any, batch: Any) -> dict[str, Any]:
    return {"loss": fitting.loss(state.params, batch)}


def test_validation_is_the_mean_over_its_data_at_the_end_of_each_epoch() -> None:
    log, seen = fitting.Log(), fitting.Recording()
    validation = Validation(measure=measure, data=fitting.batches(3))
    engine = Engine(callbacks=[seen], loggers=[log], epochs=2, validation=validation)
    final = engine.fit(fitting.jitted_step, fitting.batches(2), state=fitting.state())
    values = [(step, m["val_loss"]) for step, m in log.logged if "val_loss" in m]
    assert [step for step, _ in values] == [2, 4]
    expected = np.mean([measure(final, batch)["loss"] for batch in fitting.batches(3)])
    assert values[-1][1] == pytest.approx(expected, rel=1e-6)
    ends = [state.metrics["val_loss"] for hook, state in seen.heard if hook == "epoch_end"]
    assert ends == [value for _, value in values]


def test_validation_every_so_many_steps_is_seen_by_the_hook_of_that_step() -> None:
    seen, log = fitting.Recording(), fitting.Log()
    validation = Validation(measure=measure, data=fitting.batches(1), every_steps=2)
    Engine(callbacks=[seen], loggers=[log], validation=validation).fit(
        fitting.jitted_step, fitting.batches(5), state=fitting.state()
    )
    having = [
        state.step
        for hook, state in seen.heard
        if hook == "step_end"
        if "val_loss" in state.metrics
    ]
    assert having == [2, 4]
    assert "val_loss" in seen.heard[-1][1].metrics
    assert [(step, "val_loss" in m) for step, m in log.logged if "loss" in m] == [
        (1, False),
        (2, True),
        (3, False),
        (4, True),
        (5, False),
    ]


def test_w10_a_validation_that_raises_is_said_to_have_failed() -> None:
    def broken(state: Any, batch: Any) -> Any:
        raise OSError("no such file")

    log = fitting.Log()
    engine = Engine(loggers=[log], validation=Validation(measure=broken, data=[0]))
    with pytest.raises(EngineError, match=r"^validation failed at step 2: no such file") as raised:
        engine.fit(fitting.jitted_step, fitting.batches(2), state=fitting.state())
    assert isinstance(raised.value.__cause__, OSError)
    assert log.named("training/step_error") == []
    assert len(log.named("training/evaluation_error")) == 1


def test_early_stopping_gives_back_its_best_state() -> None:
    losses = iter([3.0, 1.0, 2.0, 2.5, 9.0])
    states = []

    def worse(state: Any, batch: Any) -> dict[str, float]:
        states.append(state_digest(state))
        return {"loss": next(losses)}

    stopping = EarlyStopping("val_loss", patience=2, restore_best=True)
    engine = Engine(callbacks=[stopping], epochs=5, validation=Validation(measure=worse, data=[0]))
    final = engine.fit(fitting.jitted_step, fitting.batches(2), state=fitting.state())
    assert stopping.best_step == int(final.step) == 4
    assert engine.result.steps == 8
    assert state_digest(final) == states[1] == engine.result.state_digest
    assert engine.result.stopped_by == "EarlyStopping"


def test_o08_model_checkpoints_are_of_the_step_they_are_named_after(tmp_path: Path) -> None:
    import orbax.checkpoint as ocp

    kept = ModelCheckpoint(f"{tmp_path}/at-{{step}}", every=2, unit="step")
    Engine(callbacks=[kept]).fit(fitting.jitted_step, fitting.batches(5), state=fitting.state())
    assert kept.save_count == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at-2", "at-4"]
    state = fitting.state()
    for batch in fitting.batches(4):
        state, _ = fitting.jitted_step(state, batch)
    with ocp.StandardCheckpointer() as reader:
        held = reader.restore(tmp_path / "at-4")
    assert np.array_equal(held["params"]["w"], state.params["w"])


def test_o14_a_logging_callback_keeps_the_history_of_a_run() -> None:
    history = LoggingCallback()
    Engine(callbacks=[history]).fit(fitting.jitted_step, fitting.batches(4), state=fitting.state())
    assert [step for step, _ in history.values("loss")][:4] == [1, 2, 3, 4]


def test_a_program_s_callbacks_are_run_by_the_trainer_s_loop_too(tmp_path: Path) -> None:
    seen = fitting.Recording(stop_at=3)
    result = run_loop(
        training.program(callbacks=(seen,)),
        Plan(steps=9, global_batch=12, microbatch=3),
        checkpoint_directory=tmp_path,
        devices=jax.devices()[:1],
    )
    assert (result.step, result.reason.value) == (4, "stopped")
    assert result.durable
    assert seen.hooks.count("train_end") == 1
    ends = [state for hook, state in seen.heard if hook == "step_end"]
    assert [state.step for state in ends] == [1, 2, 3, 4]
    assert {"loss", "gradient_norm", "double"} <= set(ends[0].metrics)


def test_epochs_of_random_access_data_follow_its_length(tmp_path: Path) -> None:
    """96 examples are 8 batches of 12: the second epoch begins with the ninth."""
    seen = fitting.Recording()
    Engine(callbacks=[seen]).fit_program(
        training.program(), Plan(steps=10, global_batch=12, microbatch=3), devices=jax.devices()[:1]
    )
    begun = [(state.epoch, state.step) for hook, state in seen.heard if hook == "epoch_begin"]
    assert begun == [(0, 0), (1, 8)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"measure": 1, "data": [0]}, "validation.measure must be a function, got int"),
        ({"measure": measure, "data": {}}, "validation.data must be an iterable of batches"),
        ({"measure": measure, "data": iter([0])}, "iterate over again and again"),
        ({"measure": measure, "data": [0], "every_steps": -1}, "every_steps must be ≥ 1, got -1"),
    ],
)
def test_w32_impossible_validations_are_refused(settings: Any, expected: str) -> None:
    with pytest.raises(EngineError, match=expected):
        Validation(**settings)


def test_w32_what_is_no_callback_is_refused_before_the_run() -> None:
    with pytest.raises(TypeError, match=r"callbacks\[0\] must be a Callback"):
        Engine(callbacks=[object()])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="on_error must be"):
        Engine(callback_errors="ignore")  # type: ignore[arg-type]
