"""Metrics on their way from the state to the loggers, and what is remembered of them."""

from __future__ import annotations

import math

import pytest

from trainerd.actors.callbacks import CallbackRunner, LoggingCallback, StateOwner
from trainerd.actors.loggers import Loggers, LoggingError


class Memory:
    """A logger that remembers, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.closed = 0

    def log(self, step, metrics) -> None:
        self.logged.append((step, dict(metrics)))
        if self.error is not None:
            raise self.error

    def event(self, step, name, fields) -> None:
        raise AssertionError("no event happens here")

    def close(self) -> None:
        self.closed += 1


def train(callback: LoggingCallback, steps: int, *, epoch_steps: int = 1000) -> None:
    """Losses 1/step at rates 0.1·step; epochs end with a validation."""
    owner = StateOwner()
    runner = CallbackRunner([callback], on_error="raise")
    with runner.session(owner):
        for step in range(1, steps + 1):
            owner.update(step=step, learning_rate=step / 10, metrics={"loss": 1 / step})
            runner.step_end(owner)
            if step % epoch_steps == 0:
                owner.add_metrics({"val_loss": 2 / step})
                runner.epoch_end(owner)
                owner.update(epoch=step // epoch_steps)


def test_o14_the_history_is_kept_and_not_overwritten() -> None:
    callback = LoggingCallback()
    train(callback, 4, epoch_steps=2)
    assert callback.values("loss") == [
        (1, 1),
        (2, 1 / 2),
        (2, 1 / 2),
        (3, 1 / 3),
        (4, 1 / 4),
        (4, 1 / 4),
    ]
    assert callback.values("val_loss") == [(2, 1.0), (4, 0.5)]
    assert [event.epoch for event in callback.history] == [0, 0, 0, 1, 1, 1]


def test_o14_the_history_can_be_bounded() -> None:
    callback = LoggingCallback(keep=2)
    train(callback, 5)
    assert [event.step for event in callback.history] == [4, 5]


def test_o14_what_is_remembered_cannot_be_changed_later() -> None:
    callback = LoggingCallback()
    train(callback, 1)
    with pytest.raises(TypeError):
        callback.history[0].metrics["loss"] = 3.0


def test_o14_every_nth_step_and_every_epochs_end_are_logged_once() -> None:
    logger = Memory()
    train(LoggingCallback(logger, every=2), 5, epoch_steps=3)
    assert [step for step, _ in logger.logged] == [2, 3, 4]
    owner = StateOwner(step=2)
    owner.update(metrics={"loss": 1.0})
    runner = CallbackRunner([LoggingCallback(logger)])
    logger.logged.clear()
    with runner.session(owner):
        runner.step_end(owner)
        runner.epoch_end(owner)
    assert len(logger.logged) == 1
    assert logger.closed == 0


def test_w30_the_learning_rate_is_logged_with_the_step_it_was_applied_in() -> None:
    logger = Memory()
    train(LoggingCallback(logger), 3)
    assert [(step, metrics["learning_rate"]) for step, metrics in logger.logged] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
    ]


def test_w30_a_learning_rate_that_nobody_knows_is_not_logged() -> None:
    logger = Memory()
    owner = StateOwner(step=1, learning_rate=math.nan)
    runner = CallbackRunner([LoggingCallback(logger)], on_error="raise")
    with runner.session(owner):
        owner.update(metrics={"loss": 1.0})
        runner.step_end(owner)
    assert logger.logged == [(1, {"loss": 1.0})]


def test_t07_a_failing_logger_stops_training_only_if_it_is_strict() -> None:
    callback = LoggingCallback(Memory(OSError("disk")))
    train(callback, 3)
    assert len(callback.history) == 3
    strict = LoggingCallback(Loggers([Memory(OSError("disk"))], strict=True))
    with pytest.raises(LoggingError, match=r"logging failed: Memory\.log: OSError: disk"):
        train(strict, 3)


@pytest.mark.parametrize(("argument", "value"), [("every", 0), ("every", -1), ("keep", 0)])
def test_x14_a_frequency_of_nothing_is_refused(argument, value) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be an integer ≥ 1, got {value}"):
        LoggingCallback(**{argument: value})
