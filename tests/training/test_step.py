"""The compiled step: its arithmetic, its guard, its independence of devices, its one trace."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakes import training
from fakes.step_rig import Rig, leaves
from trainerd.actors import control
from trainerd.actors.data import Batches
from trainerd.actors.digest import state_digest
from trainerd.actors.errors import PlanError, ProgramError
from trainerd.actors.program import Program
from trainerd.actors.slots import SlotPlan, plan_slots
from trainerd.actors.state import TrainState, initial_state
from trainerd.actors.step import Settings

pytestmark = pytest.mark.usefixtures("compiled_once")


def python_loop(program: Program, batches: Batches, plan: SlotPlan, steps: int) -> TrainState:
    """The same arithmetic by hand: one gradient a slot, summed, divided once, one update."""
    state = jax.jit(lambda: initial_state(program, 0))()
    gradient = jax.jit(jax.value_and_grad(program.loss, has_aux=True))

    @jax.jit
    def finish(state: TrainState, total: Any, weight: float) -> TrainState:
        mean = jax.tree.map(lambda leaf: leaf / weight, total)
        updates, opt_state = program.optimizer.update(mean, state.opt_state, state.params)
        return TrainState(
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            step=state.step + 1,
            rng=state.rng,
        )

    for batch in range(steps):
        slots = plan.cut(batches.read(batch))
        step_key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), batch)
        total: Any = jax.tree.map(jnp.zeros_like, state.params)
        for slot in range(plan.slots):
            examples = jax.tree.map(lambda leaf, slot=slot: leaf[slot], slots)
            _, part = gradient(state.params, examples, jax.random.fold_in(step_key, slot))
            total = jax.tree.map(jnp.add, total, part)
        state = finish(state, total, np.float32(plan.slots))
    return state


def test_t12_one_device_equals_a_python_loop_bit_for_bit() -> None:
    rig = Rig(training.program())
    for batch in range(6):
        rig.run(batch)
    by_hand = python_loop(rig.program, rig.batches, rig.plan, 6)
    assert state_digest(rig.state) == state_digest(by_hand)


@pytest.mark.parametrize("devices", [2, 3, 8])
def test_w05_w06_devices_change_the_result_by_rounding_alone(devices: int) -> None:
    one, many = Rig(training.program()), Rig(training.program(), devices=devices)
    for batch in range(4):
        first, second = one.run(batch), many.run(batch)
        np.testing.assert_allclose(second.loss, first.loss, rtol=1e-6)
        np.testing.assert_allclose(second.metrics["double"], first.metrics["double"], rtol=1e-6)
    for a, b in zip(leaves(one.state), leaves(many.state), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)


def test_w08_a_run_traces_the_loss_once_whatever_changes() -> None:
    """Steps, modes, thresholds, masks, weights and requests are inputs of one compiled step."""
    traces = []

    def counted(params: Any, batch: Any, key: jax.Array) -> Any:
        traces.append(1)
        return training.loss(params, batch, key)

    rig = Rig(training.program(loss=counted), devices=2)
    changes: list[dict[str, Any]] = [
        {},
        {"forced": (2,), "pause": 1},
        {"settings": Settings.of(steps=50, mask=False)},
        {"settings": Settings.of(steps=50, mask=True, spike_step=1, spike_limits=(2.0, 0.0))},
        {"forced": (0, 5), "settings": Settings.of(steps=1, mask=True), "bad_data": 1},
    ]
    for batch, change in enumerate(changes):
        rig.run(batch % 4, **change)
    assert len(traces) == 1


def test_w05_w06_slots_are_reduced_once_after_the_scan() -> None:
    """One sum of gradients and one maximum of control words, whatever the number of slots."""
    rig = Rig(training.program(), devices=2, microbatch=1)
    text: str = rig.step.function.as_text()  # type: ignore[attr-defined]
    assert text.count(" all-reduce(") + text.count(" all-reduce-start(") == 2


def test_state_is_donated() -> None:
    rig = Rig(training.program())
    before = rig.state
    rig.run(0)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))


@pytest.mark.parametrize("devices", [1, 3])
def test_a_slot_that_is_not_finite_is_left_out_as_if_it_had_been_masked(devices: int) -> None:
    bad, forced = Rig(training.program(), devices=devices), Rig(training.program(), devices=devices)
    slots = bad.plan.cut(bad.batches.read(0))
    spoilt = jax.tree.map(np.copy, slots)
    spoilt["y"][5, 1] = np.inf
    outputs = bad.feed(spoilt)
    same = forced.feed(slots, forced=(5,))
    assert outputs.applied
    assert np.flatnonzero(~outputs.finite).tolist() == [5]
    assert outputs.weight == bad.plan.slots - 1
    assert outputs.loss == same.loss
    assert np.isfinite(outputs.metrics["double"])
    assert state_digest(bad.state) == state_digest(forced.state)


def test_w03_the_mean_is_renormalised_by_the_weight_that_counted() -> None:
    masked, rig = Rig(training.program()), Rig(training.program())
    kept = [0, 2, 3, 4, 5, 6, 7]
    slots = rig.plan.cut(rig.batches.read(0))
    outputs = masked.feed(slots, forced=(1,))
    root = jax.random.wrap_key_data(rig.state.rng)
    losses = [
        training.loss(
            rig.state.params,
            jax.tree.map(lambda leaf, slot=slot: leaf[slot], slots),
            jax.random.fold_in(jax.random.fold_in(root, 0), slot),
        )[0]
        for slot in kept
    ]
    np.testing.assert_allclose(outputs.loss, np.mean(losses), rtol=1e-6)


def test_without_masking_a_bad_slot_skips_the_step() -> None:
    rig = Rig(training.program(data=training.Data(spoil=dict.fromkeys(range(96), "nan"))))
    digest = state_digest(rig.state)
    outputs = rig.run(0, settings=Settings.of(steps=9, mask=False))
    assert not outputs.applied
    assert not outputs.finite.any()
    assert outputs.step == 0
    assert state_digest(rig.state) == digest


def test_w11_a_step_without_any_good_slot_is_skipped() -> None:
    rig = Rig(training.program(data=training.Data(spoil=dict.fromkeys(range(96), "nan"))))
    digest = state_digest(rig.state)
    outputs = rig.run(0)
    assert not outputs.applied
    assert outputs.weight == 0
    assert np.isnan(outputs.loss)
    assert state_digest(rig.state) == digest


def test_a_gradient_that_overflows_in_the_sum_skips_the_step() -> None:
    def steep(params: Any, batch: Any, key: jax.Array) -> Any:
        return 1e38 + 0 * jnp.mean(params["a"])

    rig = Rig(training.program(loss=steep))
    digest = state_digest(rig.state)
    outputs = rig.run(0)
    assert outputs.finite.all()
    assert not outputs.applied
    assert state_digest(rig.state) == digest


def test_bad_data_skips_inside_the_same_step() -> None:
    rig = Rig(training.program())
    digest = state_digest(rig.state)
    outputs = rig.run(0, bad_data=1)
    assert not outputs.applied
    assert outputs.control[control.BAD_DATA] == 1
    assert state_digest(rig.state) == digest


def test_a_step_beyond_the_last_is_a_no_op() -> None:
    rig = Rig(training.program(), steps=2)
    rig.run(0)
    rig.run(1)
    digest = state_digest(rig.state)
    outputs = rig.run(2)
    assert not outputs.live
    assert not outputs.applied
    assert outputs.step == 2
    assert state_digest(rig.state) == digest


def test_padding_is_never_a_fault_and_never_counts() -> None:
    def mean_of_something(params: Any, batch: Any, key: jax.Array) -> Any:
        # Zeros in every slot of padding: 0/0 is NaN there.
        kept = jnp.sum(batch["y"] != 0)
        return jnp.sum((batch["x"] @ params["a"] @ params["b"] - batch["y"]) ** 2) / kept

    program = training.program(loss=mean_of_something)
    one, padded = Rig(program), Rig(program, devices=5)
    assert padded.plan.padded == 10
    first, second = one.run(0), padded.run(0)
    assert second.applied
    assert second.finite.all()
    assert second.counted.tolist() == [True] * 8 + [False] * 2
    np.testing.assert_allclose(second.loss, first.loss, rtol=1e-6)


def test_w03_weights_weigh() -> None:
    rig = Rig(training.program())
    slots = rig.plan.cut(rig.batches.read(0))
    weights = np.array([1, 0, 0, 3, 0, 0, 0, 0], np.float32)
    root = jax.random.wrap_key_data(rig.state.rng)
    losses = [
        training.loss(
            rig.state.params,
            jax.tree.map(lambda leaf, slot=slot: leaf[slot], slots),
            jax.random.fold_in(jax.random.fold_in(root, 0), slot),
        )[0]
        for slot in (0, 3)
    ]
    outputs = rig.feed(slots, weights=weights)
    np.testing.assert_allclose(outputs.loss, (losses[0] + 3 * losses[1]) / 4, rtol=1e-6)


def test_lanes_are_reduced_one_by_one_over_devices() -> None:
    rig = Rig(training.program(), devices=2)
    words = np.zeros((2, control.LANES), np.int32)
    words[0, control.PAUSE], words[1, control.STOP] = 1, control.WITHOUT_SAVE
    slots = rig.plan.cut(rig.batches.read(0))
    place = rig.step.place
    _, outputs = rig.step.function(
        rig.state,
        place(slots),
        place(rig.plan.weigh(slots, None)),
        place(rig.plan.mask(())),
        rig.settings,
        words,
    )
    assert outputs.read().control.tolist() == [1, 0, control.WITHOUT_SAVE, 0, 0, 0, 0, 0]


def test_w30_the_learning_rate_is_the_one_that_was_applied() -> None:
    rates = optax.linear_schedule(1.0, 0.0, 10)
    exposing = optax.inject_hyperparams(optax.sgd)(learning_rate=rates)
    rig = Rig(training.program(optimizer=exposing))
    assert [float(rig.run(b).metrics["learning_rate"]) for b in range(3)] == pytest.approx(
        [1.0, 0.9, 0.8]
    )


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda p, b, k: b["y"], "loss must return a floating-point scalar, got float32[3]"),
        (lambda p, b, k: jnp.int32(1), "loss must return a floating-point scalar, got int32[]"),
        (lambda p, b, k: (p["b"].sum(), {"m": b["y"]}), 'metric "m" must be a scalar'),
        (lambda p, b, k: (p["b"].sum(), [1.0]), "must return a dict of metrics"),
    ],
)
def test_a_loss_of_another_kind_is_refused_by_name(loss: Any, expected: str) -> None:
    with pytest.raises(ProgramError) as raised:
        Rig(training.program(loss=loss))
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"microbatch": 5}, "microbatch must divide global_batch 24, got 5"),
        ({"microbatch": 0}, "microbatch must be ≥ 1, got 0"),
        ({"accumulate_steps": 0}, "accumulate_steps must be ≥ 1, got 0"),
        ({"accumulate_steps": 5}, "5 slots must divide global_batch 24"),
        ({"microbatch": 3, "accumulate_steps": 2}, "not both"),
        ({"microbatch": 12, "devices": 3}, "3 devices cannot share 2 slots"),
        ({"microbatch": 3, "slots": 4}, "begun with 4 slots"),
    ],
)
def test_slots_that_do_not_fit_are_refused(numbers: dict[str, int], expected: str) -> None:
    with pytest.raises(PlanError) as raised:
        plan_slots(**{"global_batch": 24, "devices": 1, **numbers})
    assert expected in str(raised.value)


def test_accumulate_steps_are_slots_a_device() -> None:
    plan = plan_slots(global_batch=24, devices=2, accumulate_steps=3)
    assert (plan.slots, plan.slot_examples, plan.per_device) == (6, 4, 3)
    later = plan_slots(global_batch=24, devices=3, accumulate_steps=3, slots=6)
    assert (later.slots, later.per_device) == (6, 2)


def test_the_callers_arrays_stay_alive() -> None:
    mine = training.init(jax.random.key(3))
    rig = Rig(training.program(init=lambda key: mine))
    rig.run(0)
    rig.run(1)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(mine))


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, 2**32, -(2**63)])
def test_any_64_bit_seed_makes_a_key_of_its_own(seed: int) -> None:
    other = jax.jit(lambda: initial_state(training.program(), 12345))()
    state = jax.jit(lambda: initial_state(training.program(), seed))()
    assert not np.array_equal(state.rng, other.rng)
    assert not np.array_equal(state.params["a"], other.params["a"])
