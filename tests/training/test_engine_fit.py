"""`Engine.fit`: what it returns, what it counts, what it raises, and in which order."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakes import fitting
from trainerd.actors import (
    EndReason,
    Engine,
    EngineError,
    FaultBudget,
    TrainingError,
    TrainState,
    create_gradient_accumulation_step_fn,
)
from trainerd.actors.digest import state_digest

pytestmark = pytest.mark.usefixtures("compiled_once")


FORMS = {
    "plain": fitting.plain_step,
    "jitted": fitting.jitted_step,
    "made": create_gradient_accumulation_step_fn(fitting.loss),
}


@pytest.mark.parametrize("form", FORMS)
def test_t01_fit_returns_the_final_state_and_runs_until_the_data_ends(form: str) -> None:
    engine = Engine()
    final = engine.fit(FORMS[form], fitting.batches(5), state=fitting.state())
    assert int(final.step) == 5
    np.testing.assert_allclose(final.params["w"], fitting.trained(5).params["w"], rtol=1e-6)
    assert (engine.result.steps, engine.result.batches) == (5, 5)
    assert engine.result.reason is EndReason.DATA_ENDED
    assert engine.result.state_digest == state_digest(final)
    assert engine.state is final


@pytest.mark.parametrize("form", FORMS)
def test_t01_w15_w16_nothing_is_pulled_past_the_steps(form: str) -> None:
    data, engine = fitting.Counted(10), Engine()
    final = engine.fit(FORMS[form], data, steps=4, state=fitting.state())
    assert int(final.step) == data.pulled == 4
    assert engine.result.reason is EndReason.STEPS_REACHED


def test_t06_steps_are_applied_updates_and_attempts_are_counted_beside_them() -> None:
    data, engine = fitting.batches(9, b2=np.nan, b5=np.inf), Engine()
    final = engine.fit(fitting.jitted_step, data, steps=5, state=fitting.state())
    assert int(final.step) == 5
    result = engine.result
    assert (result.steps, result.batches, result.skipped_batches) == (5, 7, 2)
    assert result.errors == {"non_finite_step": 2}
    assert fitting.same(final, fitting.trained(7, 2, 5))


@pytest.mark.parametrize(
    ("step_fn", "engine"),
    [
        (create_gradient_accumulation_step_fn(fitting.loss, 4), {}),
        (fitting.plain_step, {"accumulate_steps": 4}),
    ],
)
@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (fitting.batch(0), "batch 0: accumulate_steps is 4, so a batch needs the key"),
        (fitting.micro(0, 3), "batch 0: not enough microbatches: got 3, need 4"),
        (fitting.micro(0, 5), "batch 0: too many microbatches: got 5, need 4"),
    ],
)
def test_t17_t18_t19_a_batch_is_checked_before_any_compute(
    step_fn: Any, engine: Any, bad: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "loss", lambda params, batch: 1 / 0)
    with pytest.raises(EngineError) as raised:
        Engine(**engine).fit(step_fn, [bad], state=fitting.state())
    assert raised.value.message.startswith(expected)
    assert raised.value.suggestion


def test_t20_ordinary_batches_are_handed_on_as_they_are() -> None:
    seen = []

    def step(state: Any, batch: Any) -> Any:
        seen.append(batch)
        return state, 1.0

    data = [(1, 2), "text", {"microbatches": 0}, None]
    Engine().fit(step, data, state={"w": jnp.ones(2)})
    assert seen == data


@pytest.mark.parametrize("form", ["jitted", "made"])
def test_w07_the_callers_arrays_stay_alive(form: str) -> None:
    mine = TrainState.create({"w": jnp.ones(fitting.WIDTH)}, fitting.OPTIMIZER)
    Engine().fit(FORMS[form], fitting.batches(3), state=mine)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(mine))
    assert np.array_equal(mine.params["w"], np.ones(fitting.WIDTH))


@pytest.mark.parametrize("form", ["jitted", "made"])
def test_w08_a_run_traces_its_step_once(form: str) -> None:
    traces = []

    def loss(params: Any, batch: Any) -> Any:
        traces.append(1)
        return fitting.loss(params, batch)

    def plain(state: Any, batch: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(state.params, batch)
        return state.apply_gradients(grads=gradients), {"loss": value}

    step = jax.jit(plain) if form == "jitted" else create_gradient_accumulation_step_fn(loss)
    Engine().fit(step, fitting.batches(6, b3=np.nan), state=fitting.state())
    assert len(traces) == 1


def test_w09_a_second_fit_runs_the_step_function_it_is_given() -> None:
    engine = Engine()

    def adding(amount: float) -> Any:
        return jax.jit(lambda state, batch: ({"w": state["w"] + amount}, {"loss": amount}))

    first = engine.fit(adding(1.0), [0, 0], state={"w": jnp.zeros(())})
    second = engine.fit(adding(10.0), [0, 0, 0], state=first, steps=2)
    assert (float(first["w"]), float(second["w"])) == (2.0, 22.0)
    assert (engine.result.steps, engine.result.batches) == (2, 2)


def test_w18_t11_metrics_carry_the_step_they_are_of() -> None:
    log = fitting.Log()
    data = fitting.batches(5, b2=np.nan)
    Engine(loggers=[log]).fit(fitting.jitted_step, data, state=fitting.state())
    state, expected = fitting.state(), []
    for index in (0, 1, 3, 4):
        state, metrics = fitting.jitted_step(state, data[index])
        expected.append((int(state.step), float(metrics["loss"])))
    assert [(step, metrics["loss"]) for step, metrics in log.logged] == expected


def test_w30_the_learning_rate_is_the_one_that_was_applied() -> None:
    rates = [0.5, 0.25, 0.125, 0.0625]
    optimizer = optax.inject_hyperparams(optax.sgd)(
        learning_rate=lambda count: jnp.asarray(rates)[count]
    )
    log, seen = fitting.Log(), fitting.Recording()
    Engine(loggers=[log], callbacks=[seen]).fit(
        create_gradient_accumulation_step_fn(fitting.loss),
        fitting.batches(4),
        state=fitting.state(optimizer),
    )
    assert [metrics["learning_rate"] for _, metrics in log.logged] == rates
    ends = [state for hook, state in seen.heard if hook == "step_end"]
    assert [state.learning_rate for state in ends] == rates


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"accumulate_steps": 0}, "accumulate_steps must be ≥ 1, got 0"),
        ({"accumulate_steps": 2.0}, "accumulate_steps must be an integer, got 2.0"),
        ({"epochs": 0}, "epochs must be ≥ 1, got 0"),
        ({"epochs": True}, "epochs must be an integer, got True"),
    ],
)
def test_w32_impossible_settings_are_refused_at_construction(arguments: Any, expected: str) -> None:
    with pytest.raises(EngineError, match=expected):
        Engine(**arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"steps": 0}, "steps must be ≥ 1, got 0"),
        ({"steps": 2.5}, "steps must be an integer, got 2.5"),
        ({"state": None}, "state must be given, got None"),
        ({"step_fn": 3}, "step_fn must be a function"),
    ],
)
def test_w32_impossible_arguments_of_fit_are_refused_before_any_compute(
    arguments: Any, expected: str
) -> None:
    data = fitting.Counted(3)
    given = {"step_fn": fitting.jitted_step, "data": data, "state": fitting.state(), **arguments}
    with pytest.raises(EngineError, match=expected):
        Engine().fit(given.pop("step_fn"), given.pop("data"), **given)
    assert data.pulled == 0


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_w32_impossible_budgets_are_refused(value: Any) -> None:
    with pytest.raises(EngineError, match=r"budget\.skips must be an integer ≥ 0, got"):
        FaultBudget(skips=value)


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (lambda state: state, "must return .state, metrics., got TrainState"),
        (lambda state: (state, {"loss": jnp.ones(3)}), r'metric "loss".* must be one number'),
        (
            lambda state: (state, {"loss": jnp.complex64(1)}),
            r"one number, got a (complex64|ArrayImpl)",
        ),
        (lambda state: (state.params, {}), "a state of the structure it was given"),
        (
            lambda state: (state.apply_gradients(grads={"w": jnp.ones(4)}).params["w"], {}),
            "a state of the structure it was given",
        ),
    ],
)
@pytest.mark.parametrize("jitted", [False, True])
def test_what_a_step_function_must_return_is_said(
    returned: Any, expected: str, jitted: bool
) -> None:
    def step(state: Any, batch: Any) -> Any:
        return returned(state)

    with pytest.raises(TrainingError, match=expected):
        Engine().fit(jax.jit(step) if jitted else step, [0, 0], state=fitting.state())


def test_a_step_must_not_change_the_types_of_its_state() -> None:
    step = jax.jit(lambda state, batch: ({"w": state["w"].astype(jnp.int32)}, 0.0))
    with pytest.raises(EngineError, match=r"leaf \['w'\] was float32\[2\], is int32\[2\]"):
        Engine().fit(step, [0], state={"w": jnp.ones(2)})


def test_a_step_may_return_its_loss_alone_and_a_state_may_be_anything() -> None:
    class Opaque:
        total = 0

    def step(state: Any, batch: int) -> Any:
        state["opaque"].total += batch
        return state, float(batch)

    engine = Engine()
    final = engine.fit(step, [1, 2, 3], state={"opaque": Opaque(), "n": 1})
    assert final["opaque"].total == 6
    assert (engine.result.loss, engine.result.steps) == (3.0, 3)


def test_there_is_no_result_before_the_first_fit() -> None:
    with pytest.raises(EngineError, match="there is no result"):
        _ = Engine().result
    assert Engine().state is None
