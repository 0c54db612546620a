"""Accumulation for step functions of one's own: one scan, one update, the mean of what counted."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakes import fitting
from trainerd.actors import (
    EngineError,
    TrainState,
    create_gradient_accumulation_step_fn,
    gradient_accumulation_step,
)

pytestmark = pytest.mark.usefixtures("compiled_once")

N = 4


def grad_fn(params: Any, batch: Any) -> Any:
    return jax.value_and_grad(fitting.loss)(params, batch)


def apply_fn(state: TrainState, grads: Any) -> TrainState:
    return state.apply_gradients(grads=grads)


def microbatches(**spoil: float) -> list[Any]:
    return fitting.micro(0, N, **spoil)["microbatches"]


def step(state: TrainState, parts: Any, **options: Any) -> Any:
    return gradient_accumulation_step(grad_fn, apply_fn, state, parts, N, **options)


def same(one: Any, other: Any) -> bool:
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.array_equal(a, b) and np.asarray(a).dtype == np.asarray(b).dtype
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def by_hand(state: TrainState, parts: list[Any]) -> tuple[TrainState, jax.Array]:
    """The Python loop of the definition: sums from zeros, then one division."""
    total, gradients = jnp.float32(0), jax.tree.map(jnp.zeros_like, state.params)
    one = jax.jit(grad_fn)
    for part in parts:
        loss, gradient = one(state.params, part)
        total, gradients = total + loss, jax.tree.map(jnp.add, gradients, gradient)
    mean = jax.tree.map(lambda g: g / len(parts), gradients)
    return jax.jit(apply_fn)(state, mean), total / len(parts)


def test_t09_t11_one_update_with_the_mean_loss_and_the_number_that_counted() -> None:
    updates = []

    def counting(state: TrainState, grads: Any) -> TrainState:
        updates.append(1)
        return apply_fn(state, grads)

    after, metrics = gradient_accumulation_step(
        grad_fn, counting, fitting.state(), microbatches(), N
    )
    assert len(updates) == 1
    assert int(after.step) == 1
    assert int(metrics["microbatches"]) == N
    losses = [float(fitting.loss(fitting.state().params, part)) for part in microbatches()]
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-6)


def test_t10_w01_gradients_are_traced_once_and_evaluated_once_a_microbatch() -> None:
    traced, evaluated = itertools.count(), []

    def counted(params: Any, batch: Any) -> Any:
        next(traced)
        jax.debug.callback(lambda: evaluated.append(1))
        return fitting.loss(params, batch)

    for steps in (1, N):
        traced, evaluated = itertools.count(), []
        make = create_gradient_accumulation_step_fn(counted, steps)
        given = fitting.micro(0, steps) if steps > 1 else fitting.batch(0)
        jax.block_until_ready(make(fitting.state(), given))
        jax.effects_barrier()
        assert next(traced) == 1
        assert len(evaluated) == steps


def test_t12_it_is_the_python_loop_bit_for_bit_and_the_large_batch_within_rounding() -> None:
    state, parts = fitting.state(), microbatches()
    after, metrics = jax.jit(step)(state, parts)
    expected, loss = by_hand(state, parts)
    assert same(after, expected)
    assert float(metrics["loss"]) == float(loss)

    large = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    whole, _ = jax.jit(fitting.plain_step)(state, large)
    np.testing.assert_allclose(after.params["w"], whole.params["w"], rtol=1e-5)


def test_t13_surplus_microbatches_are_refused_unless_they_are_to_be_dropped() -> None:
    six = fitting.micro(0, 6)["microbatches"]
    with pytest.raises(
        EngineError, match=r"too many microbatches: got 6, need 4; .*drop_remainder"
    ):
        step(fitting.state(), six)
    dropped, _ = step(fitting.state(), six, drop_remainder=True)
    assert same(dropped, step(fitting.state(), six[:N])[0])
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *six)
    assert same(step(fitting.state(), stacked, drop_remainder=True)[0], dropped)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (lambda parts: parts[:3], 3),
        (lambda parts: [], 0),
        (lambda parts: jax.tree.map(lambda leaf: np.stack([leaf] * 2), parts[0]), 2),
    ],
)
def test_t14_t18_w32_too_few_microbatches_are_named_before_any_compute(
    given: Any, got: int
) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError("computed")

    with pytest.raises(EngineError) as raised:
        gradient_accumulation_step(never, never, fitting.state(), given(microbatches()), N)
    assert raised.value.message == f"not enough microbatches: got {got}, need {N}"
    assert raised.value.suggestion


def test_t15_it_traces_under_jit_and_keeps_structure_and_types() -> None:
    state = TrainState.create(
        {"w": jnp.ones((fitting.WIDTH,), jnp.bfloat16), "n": {"b": jnp.zeros(())}},
        optax.sgd(0.1, momentum=0.9),
    )

    def loss(params: Any, batch: Any) -> Any:
        return fitting.loss({"w": params["w"].astype(jnp.float32)}, batch) + params["n"]["b"] ** 2

    make = create_gradient_accumulation_step_fn(loss, N)
    after, _ = jax.jit(make)(state, fitting.micro(0, N))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert all(
        a.dtype == b.dtype and a.shape == b.shape
        for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True)
    )
    assert None not in jax.tree.leaves(after, is_leaf=lambda leaf: leaf is None)


@pytest.mark.parametrize("has_aux", [False, True])
@pytest.mark.parametrize("loss_scale", [1.0, 1024.0])
def test_t16_t20_the_made_step_function_works_with_and_without_accumulation(
    has_aux: bool, loss_scale: float
) -> None:
    def loss(params: Any, batch: Any) -> Any:
        value = fitting.loss(params, batch)
        return (value, {"double": 2 * value}) if has_aux else value

    given = fitting.batch(0)
    for steps, batch in ((1, given), (N, {"microbatches": [given] * N})):
        make = create_gradient_accumulation_step_fn(
            loss, steps, has_aux=has_aux, loss_scale=loss_scale
        )
        after, metrics = make(fitting.state(), batch)
        expected, said = fitting.jitted_step(fitting.state(), given)
        assert int(after.step) == 1
        np.testing.assert_allclose(after.params["w"], expected.params["w"], rtol=1e-6)
        assert float(metrics["loss"]) == pytest.approx(float(said["loss"]), rel=1e-6)
        if has_aux:
            assert float(metrics["double"]) == pytest.approx(2 * float(metrics["loss"]))


def test_t17_a_batch_without_microbatches_says_what_is_missing_and_how_to_mend_it() -> None:
    make = create_gradient_accumulation_step_fn(fitting.loss, N)
    with pytest.raises(EngineError) as raised:
        make(fitting.state(), fitting.batch(0))
    assert "needs the key 'microbatches', got the keys ['x', 'y']" in raised.value.message
    assert "accumulate_steps to 1" in raised.value.suggestion


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "4", None])
def test_w32_impossible_numbers_of_microbatches_are_refused_with_the_value(value: Any) -> None:
    with pytest.raises(EngineError, match="accumulate_steps must be") as raised:
        create_gradient_accumulation_step_fn(fitting.loss, value)
    assert repr(value).strip("'") in str(raised.value)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), True])
def test_w32_impossible_loss_scales_are_refused(scale: Any) -> None:
    with pytest.raises(EngineError, match="loss_scale must be a finite number > 0"):
        create_gradient_accumulation_step_fn(fitting.loss, loss_scale=scale)


def test_w03_microbatches_count_by_their_weights() -> None:
    parts, weights = microbatches(), np.float32([1, 0, 3, 0.5])
    after, metrics = step(fitting.state(), parts, weights=weights)
    losses = np.array([fitting.loss(fitting.state().params, part) for part in parts])
    assert float(metrics["loss"]) == pytest.approx(np.average(losses, weights=weights), rel=1e-6)
    assert int(metrics["microbatches"]) == 3
    gradients = [grad_fn(fitting.state().params, part)[1]["w"] for part in parts]
    mean = {"w": np.average(gradients, axis=0, weights=weights).astype(np.float32)}
    expected = fitting.state().apply_gradients(grads=mean)
    np.testing.assert_allclose(after.params["w"], expected.params["w"], rtol=1e-5)


def test_w04_gradients_of_little_precision_are_added_up_in_float32() -> None:
    """In bfloat16 256 + 1 is 256: the small ones would be lost."""
    sizes = np.float32([256, 1, 1, 1])
    state = TrainState.create({"w": jnp.zeros((), jnp.bfloat16)}, optax.sgd(1.0))
    after, _ = gradient_accumulation_step(
        lambda params, size: (size, {"w": size.astype(jnp.bfloat16)}), apply_fn, state, sizes, N
    )
    assert after.params["w"].dtype == jnp.bfloat16
    assert float(after.params["w"]) == -float(jnp.bfloat16(259 / 4))


def test_w11_a_microbatch_that_is_not_finite_is_left_out_of_the_mean() -> None:
    spoiled = microbatches(m2=np.nan)
    after, metrics = step(fitting.state(), spoiled)
    rest = [part for index, part in enumerate(spoiled) if index != 2]
    expected, loss = by_hand(fitting.state(), rest)
    np.testing.assert_allclose(after.params["w"], expected.params["w"], rtol=1e-6)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-6)
    assert int(metrics["microbatches"]) == N - 1


def test_w11_where_nothing_is_left_nothing_is_applied() -> None:
    after, metrics = step(fitting.state(), microbatches(m0=np.nan, m1=np.inf, m2=np.nan, m3=np.nan))
    assert same(after, fitting.state())
    assert not bool(metrics["applied"])
    assert np.isnan(float(metrics["loss"]))


def test_t22_a_state_applies_gradients_and_one_without_an_optimizer_says_what_to_do() -> None:
    state = fitting.state()
    after = state.apply_gradients(grads={"w": jnp.ones(fitting.WIDTH)})
    assert int(after.step) == int(state.step) + 1
    assert not np.array_equal(after.params["w"], state.params["w"])
    assert after.optimizer is state.optimizer
    with pytest.raises(EngineError, match=r"needs an optimizer.*TrainState\.create"):
        TrainState.create({"w": 1.0}).apply_gradients(grads={"w": 1.0})
    with pytest.raises(EngineError, match="structure"):
        state.apply_gradients(grads=[1.0])


def test_a_made_state_shares_no_array_with_its_maker() -> None:
    mine = jnp.ones(3)
    made = TrainState.create({"w": mine, "key": jax.random.key(1)})
    made.params["w"].delete()
    assert not mine.is_deleted()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda params, batch: batch["y"], r"floating-point scalar, got float32\[8\]"),
        (lambda params, batch: (fitting.loss(params, batch), {}), "has_aux=False, got tuple"),
    ],
)
def test_a_loss_of_another_form_is_refused_by_name(loss: Any, expected: str) -> None:
    with pytest.raises(EngineError, match=expected):
        create_gradient_accumulation_step_fn(loss)(fitting.state(), fitting.batch(0))


def test_microbatches_of_different_shapes_name_the_leaf_and_the_shapes() -> None:
    parts = microbatches()
    parts[3] = jax.tree.map(lambda leaf: leaf[:5], parts[3])
    with pytest.raises(EngineError, match=r"leaf \['[xy]'\] is float32\[8.* in microbatch 3"):
        step(fitting.state(), parts)


def test_t23_loss_and_update_are_the_same_on_one_device_and_on_eight() -> None:
    """Microbatches spread over eight devices, the state on all of them."""
    make = create_gradient_accumulation_step_fn(fitting.loss, N)
    batch = {"microbatches": jax.tree.map(lambda *leaves: np.stack(leaves), *microbatches())}
    alone, metrics = make(fitting.state(), batch)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    cut = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "data"))
    spread, said = make(
        jax.device_put(fitting.state(), whole),
        jax.tree.map(lambda x: jax.device_put(x, cut), batch),
    )
    assert float(said["loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-6)
    np.testing.assert_allclose(spread.params["w"], alone.params["w"], rtol=1e-6)
