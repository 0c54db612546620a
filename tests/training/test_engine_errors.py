"""`Engine.fit` when something goes wrong: what is skipped, what is raised, in which order."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from structlog.testing import capture_logs

from fakes import fitting
from trainerd.actors import (
    DataError,
    EndReason,
    Engine,
    EngineError,
    FaultBudget,
    LoggingError,
    create_gradient_accumulation_step_fn,
)

pytestmark = pytest.mark.usefixtures("compiled_once")


def test_t02_t03_a_step_that_raises_ends_the_run_with_the_original_as_the_cause() -> None:
    error, engine = ValueError("user boom"), Engine()
    with pytest.raises(EngineError) as raised:
        engine.fit(fitting.Failing(2, error=error), fitting.batches(4), state=fitting.state())
    assert raised.value.__cause__ is error
    assert raised.value.message == "step execution failed at step 2: user boom"
    assert "continue_on_error=True" in raised.value.suggestion
    assert str(raised.value).count("step execution failed") == 1
    assert str(raised.value).count("user boom") == 1
    assert engine.result.reason is EndReason.FAILED
    assert engine.result.errors == {"step_exception": 1}
    assert fitting.same(engine.state, fitting.trained(2))


def test_t03_an_error_of_ours_is_not_wrapped_into_another() -> None:
    mine = EngineError("said once", suggestion="do this")
    with pytest.raises(EngineError) as raised:
        Engine().fit(fitting.Failing(0, error=mine), fitting.batches(1), state=fitting.state())
    assert raised.value is mine


def test_t04_first_the_event_then_the_log_line_then_the_raise() -> None:
    order: list[str] = []

    class Ordered(fitting.Log):
        def event(self, step: int, name: str, fields: Any) -> None:
            super().event(step, name, fields)
            order.append(name)

    log = Ordered()
    with capture_logs() as lines:
        lines_seen_by_event = []
        log.event = lambda step, name, fields: (  # type: ignore[method-assign]
            lines_seen_by_event.append(len(lines)),
            Ordered.event(log, step, name, fields),
        )
        with pytest.raises(EngineError):
            Engine(loggers=[log]).fit(fitting.Failing(1), fitting.batches(2), state=fitting.state())
    ((step, fields),) = log.named("training/step_error")
    assert step == 1
    assert (fields["error_type"], fields["batch"]) == ("ValueError", 1)
    assert "user boom" in fields["message"]
    assert order == ["training/step_error"]
    assert lines_seen_by_event == [0]
    assert [line["event"] for line in lines] == ["training/step_error"]
    assert lines[0]["log_level"] == "error"


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_t05_a_failing_step_is_skipped_and_the_state_is_kept(failing: int) -> None:
    log = fitting.Log()
    engine = Engine(loggers=[log])
    with capture_logs() as lines:
        final = engine.fit(
            fitting.Failing(failing),
            fitting.batches(3),
            steps=3,
            state=fitting.state(),
            continue_on_error=True,
        )
    assert int(final.step) == 2
    assert fitting.same(final, fitting.trained(3, failing))
    assert (engine.result.batches, engine.result.skipped_batches) == (3, 1)
    assert engine.result.errors == {"step_exception": 1}
    assert [line["log_level"] for line in lines] == ["warning"]
    assert log.named("training/step_error")[0][1]["action"] == "skip"


# JAX logs what a callback raises.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_t05_w07_a_run_never_goes_on_without_a_whole_state() -> None:
    calls = itertools.count()

    def host(value: Any) -> None:
        if next(calls) == 2:
            raise RuntimeError("host boom")

    @jax.jit
    def step(state: Any, batch: Any) -> Any:
        after, metrics = fitting.plain_step(state, batch)
        jax.debug.callback(host, metrics["loss"])
        return after, metrics

    state, engine = fitting.state(), Engine()
    with pytest.raises(EngineError) as raised:
        engine.fit(step, fitting.batches(6), state=state, continue_on_error=True)
    assert raised.value.message.startswith("step execution failed at step 2: ")
    assert "host boom" in raised.value.message
    assert "resume from the last checkpoint" in raised.value.suggestion
    assert isinstance(raised.value.__cause__, jax.errors.JaxRuntimeError)
    assert engine.state is None
    assert engine.result.state_digest == ""
    assert (engine.result.steps, next(calls)) == (2, 3)


def test_t07_w10_a_failing_logger_stops_training_in_strict_mode_only() -> None:
    data = fitting.batches(4)
    well = fitting.Log()
    engine = Engine(loggers=[fitting.Log(error=OSError("disk full")), well])
    final = engine.fit(fitting.jitted_step, data, state=fitting.state())
    assert int(final.step) == 4
    assert [step for step, _ in well.logged] == [1, 2, 3, 4]
    assert engine.result.errors == {"logging": 4}

    strict = Engine(loggers=[fitting.Log(error=OSError("disk full")), well], strict_logging=True)
    with pytest.raises(EngineError, match=r"^logging failed: .*disk full") as raised:
        strict.fit(fitting.jitted_step, data, state=fitting.state())
    assert type(raised.value) is LoggingError
    assert strict.result.reason is EndReason.FAILED


def test_w11_t06_a_guarded_state_of_any_kind_never_takes_a_value_that_is_not_finite() -> None:
    @jax.jit
    def step(state: Any, batch: Any) -> Any:
        return {"w": state["w"] + batch, "limit": state["limit"]}, {"other": batch}

    engine = Engine()
    state = {"w": jnp.zeros(()), "limit": jnp.inf}
    final = engine.fit(step, [1.0, np.nan, 2.0], state=state)
    assert (float(final["w"]), float(final["limit"])) == (3.0, np.inf)
    assert engine.result.errors == {"non_finite_step": 1}


def test_w11_a_plain_function_is_guarded_too_unless_it_donates() -> None:
    engine = Engine()
    data = fitting.batches(3, b1=np.nan)
    assert fitting.same(
        engine.fit(fitting.Failing(), data, state=fitting.state()), fitting.trained(3, 1)
    )
    donating = jax.jit(fitting.plain_step, donate_argnums=0)
    with pytest.raises(EngineError, match="leave out donate_argnums"):
        engine.fit(lambda *given: donating(*given), data, state=fitting.state())  # noqa: PLW0108
    assert engine.fit(donating, data, state=fitting.state())


def test_w11_a_microbatch_is_masked_and_counted() -> None:
    step, engine = create_gradient_accumulation_step_fn(fitting.loss, 4), Engine()
    data = [fitting.micro(0, 4), fitting.micro(1, 4, m6=np.nan), fitting.micro(2, 4)]
    final = engine.fit(step, data, state=fitting.state())
    assert int(final.step) == 3
    assert (engine.result.masked_slots, engine.result.skipped_batches) == (1, 0)
    assert engine.result.errors == {"non_finite_microbatch": 1}


def test_w12_where_all_steps_fail_the_budget_ends_the_run() -> None:
    step, engine = fitting.Failing(*range(99)), Engine(budget=FaultBudget(skips=4))
    with pytest.raises(EngineError, match=r"step execution failed at step 0: user boom") as raised:
        engine.fit(step, fitting.batches(50), state=fitting.state(), continue_on_error=True)
    assert step.called == 5
    assert "5 in 600 s, limit 4" in str(raised.value)
    assert isinstance(raised.value.__cause__, ValueError)


def test_w12_steps_that_are_not_finite_end_the_run_when_there_are_too_many() -> None:
    data = fitting.batches(6, b1=np.nan, b2=np.nan, b3=np.nan)
    with pytest.raises(EngineError, match=r"not finite at step 1: .*3 in a row, limit 3"):
        Engine().fit(fitting.jitted_step, data, state=fitting.state())


def test_w12_a_run_that_applied_nothing_is_a_failure() -> None:
    engine = Engine()
    with pytest.raises(EngineError, match=r"no update was applied: 2 batches .*, 2 of them skip"):
        engine.fit(
            fitting.Failing(0, 1), fitting.batches(2), state=fitting.state(), continue_on_error=True
        )
    assert engine.result.reason is EndReason.FAILED


def test_w10_w15_an_error_of_the_data_is_a_data_error_with_its_batch() -> None:
    broken = OSError("torn file")
    data, engine, log = fitting.Counted(6, {2: broken}), Engine(), fitting.Log()
    with pytest.raises(DataError, match="raised OSError for batch 2: torn file") as raised:
        Engine(loggers=[log]).fit(fitting.jitted_step, data, state=fitting.state())
    assert raised.value.__cause__ is broken
    assert raised.value.batch == 2
    assert [fields["batch"] for _, fields in log.named("training/data_error")] == [2]
    assert log.named("training/step_error") == []

    data = fitting.Counted(6, {2: broken})
    final = engine.fit(fitting.jitted_step, data, state=fitting.state(), continue_on_error=True)
    assert fitting.same(final, fitting.trained(6, 2))
    assert engine.result.errors == {"data_error": 1}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"x": 1}, "must be an iterable of batches, got one dict"),
        (7, "must be an iterable of batches, got int"),
        ([], "the data has no batches"),
        (iter(()), "the data has no batches"),
    ],
)
def test_w15_data_without_batches_is_refused(data: Any, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        Engine().fit(fitting.jitted_step, data, state=fitting.state())


# JAX logs what a callback raises.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("form", ["plain", "jitted"])
def test_w18_an_error_is_said_to_be_of_its_own_step(form: str) -> None:
    def host(value: Any) -> None:
        if not np.isfinite(value):
            raise RuntimeError("host boom")

    def step(state: Any, batch: Any) -> Any:
        after, metrics = fitting.plain_step(state, batch)
        jax.debug.callback(host, metrics["loss"])
        return after, metrics

    log = fitting.Log()
    chosen = step if form == "plain" else jax.jit(step)
    with pytest.raises(EngineError, match="failed at step 3: "):
        Engine(loggers=[log]).fit(chosen, fitting.batches(6, b3=np.nan), state=fitting.state())
    assert [step for step, _ in log.logged] == [1, 2, 3]
    assert log.named("training/step_error")[0][1]["batch"] == 3


def test_t05_a_step_that_writes_into_its_state_and_raises_spoils_nothing() -> None:
    calls = itertools.count()

    def step(state: Any, batch: float) -> Any:
        state["w"] = state["w"] + batch
        if next(calls) == 1:
            raise ValueError("half done")
        return state, batch

    mine = {"w": jnp.zeros(())}
    final = Engine().fit(step, [1.0, 2.0, 4.0], state=mine, continue_on_error=True)
    assert (float(final["w"]), float(mine["w"])) == (5.0, 0.0)
