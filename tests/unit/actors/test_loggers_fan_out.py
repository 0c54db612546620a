"""Many loggers behind one: each gets the value, none can hurt training."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import structlog

from trainerd.actors.loggers import Loggers, LoggingError


class Memory:
    """A logger that remembers what it was given; `error` is raised by every method."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.heard: list[Any] = []

    def _note(self, *what: Any) -> None:
        self.heard.append(what)
        if self.error is not None:
            raise self.error

    def log(self, step, metrics) -> None:
        self._note("log", step, dict(metrics))
        metrics.clear()

    def event(self, step, name, fields) -> None:
        self._note("event", step, name, dict(fields))

    def close(self) -> None:
        self._note("close")


class Other(Memory):
    pass


def test_t07_a_failing_logger_stops_nothing_and_the_others_still_get_the_value() -> None:
    broken, sound = Memory(OSError(28, "No space left on device")), Other()
    loggers = Loggers([broken, sound])
    with structlog.testing.capture_logs() as logs:
        loggers.log(1, {"loss": 2.0})
        loggers.event(1, "training/step_error", {"error": "ValueError"})
        loggers.close()
    assert sound.heard == [
        ("log", 1, {"loss": 2.0}),
        ("event", 1, "training/step_error", {"error": "ValueError"}),
        ("close",),
    ]
    assert [log["event"] for log in logs] == ["logger failed"] * 3
    assert logs[0]["logger_name"] == "Memory"
    assert "No space left on device" in logs[0]["error"]
    assert loggers.failures == {f"Memory.{m}: OSError": 1 for m in ("log", "event", "close")}


def test_t07_a_kind_of_failure_is_warned_about_once_and_counted() -> None:
    broken = Memory(OSError("disk"))
    loggers = Loggers([broken, Memory()])
    with structlog.testing.capture_logs() as logs:
        for step in range(50):
            loggers.log(step, {"loss": 1.0})
    assert len(logs) == 1
    broken.error = ValueError("another kind")
    with structlog.testing.capture_logs() as logs:
        loggers.log(50, {"loss": 1.0})
    assert len(logs) == 1
    assert loggers.error_count == 51
    broken.error = None
    with structlog.testing.capture_logs() as logs:
        loggers.close()
    assert [(log["event"], log["count"]) for log in logs] == [("logger failed repeatedly", 50)]


def test_t07_strict_raises_once_all_have_had_their_turn() -> None:
    cause = OSError(28, "No space left on device")
    sound = Other()
    loggers = Loggers([Memory(cause), Memory(ValueError("second")), sound], strict=True)
    with pytest.raises(LoggingError) as raised:
        loggers.log(1, {"loss": 2.0})
    assert str(raised.value) == (
        "logging failed: Memory.log: OSError: [Errno 28] No space left on device"
    )
    assert raised.value.__cause__ is cause
    assert sound.heard == [("log", 1, {"loss": 2.0})]
    assert loggers.failures == {"Memory.log: OSError": 1, "Memory#2.log: ValueError": 1}
    with pytest.raises(LoggingError):
        loggers.event(1, "x", {})
    with pytest.raises(LoggingError):
        loggers.close()
    assert sound.heard[-1] == ("close",)


def test_t07_a_logger_cannot_change_what_the_next_one_gets() -> None:
    first, second = Memory(), Memory()
    given = {"loss": 2.0}
    Loggers([first, second]).log(1, given)
    assert first.heard == second.heard == [("log", 1, {"loss": 2.0})]
    assert given == {"loss": 2.0}


def test_t07_an_interrupt_is_no_loggers_failure() -> None:
    loggers = Loggers([Memory(KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        loggers.log(1, {"loss": 1.0})
    assert loggers.error_count == 0


def test_w29_arrays_reach_every_logger_as_floats() -> None:
    first, second = Memory(), Memory()
    Loggers([first, second]).log(3, {"a": jnp.float32(1.5), "b": np.int64(2), "c": 3})
    for logger in (first, second):
        ((_, step, metrics),) = logger.heard
        assert (step, metrics) == (3, {"a": 1.5, "b": 2.0, "c": 3.0})
        assert {type(value) for value in metrics.values()} == {float}


@pytest.mark.parametrize("strict", [False, True])
def test_w29_a_metric_that_is_no_number_does_not_take_the_others_with_it(strict) -> None:
    logger = Memory()
    loggers = Loggers([logger], strict=strict)
    metrics = {"loss": 1.0, "logits": jnp.ones((2, 3))}
    with structlog.testing.capture_logs() as logs:
        if strict:
            with pytest.raises(LoggingError, match=r'metric "logits" must be one real number'):
                loggers.log(1, metrics)
        else:
            loggers.log(1, metrics)
    assert logger.heard == [("log", 1, {"loss": 1.0})]
    assert "logits" in logs[0]["error"]
    assert loggers.error_count == 1


def test_w29_a_call_without_a_single_number_is_strictly_refused_too() -> None:
    with pytest.raises(LoggingError, match="logits"):
        Loggers([Memory()], strict=True).log(1, {"logits": np.ones(3)})


def test_closing_again_does_nothing() -> None:
    logger = Memory()
    loggers = Loggers([logger])
    loggers.close()
    loggers.close()
    assert logger.heard == [("close",)]
