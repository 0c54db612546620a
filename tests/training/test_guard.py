"""The guard: what is not finite, or a spike, never reaches the state, and leaves no trace in it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakes import training
from fakes.step_rig import Rig, leaves
from trainerd.actors.digest import state_digest
from trainerd.actors.step import Settings

pytestmark = pytest.mark.usefixtures("compiled_once")

ALL_BAD = dict.fromkeys(range(training.EXAMPLES), "nan")

SCHEDULE = optax.cosine_decay_schedule(1e-2, 40)
OPTIMIZERS = {
    "adamw with a schedule": training.OPTIMIZER,
    "sgd with momentum and a schedule": optax.sgd(SCHEDULE, momentum=0.9, nesterov=True),
    "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=4),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_w11_a_skip_leaves_every_leaf_as_if_the_batch_had_not_been(name: str) -> None:
    """Counts, schedules, moments, factors: at equal `step` the state is that of a run without."""
    optimizer = OPTIMIZERS[name]
    skipping = Rig(training.program(optimizer=optimizer))
    without = Rig(training.program(optimizer=optimizer))
    applied = []
    for batch in (0, 1, 2, 3):
        slots = skipping.plan.cut(skipping.batches.read(batch))
        if batch == 2:
            slots["x"][...] = np.nan
        applied.append(bool(skipping.feed(slots).applied))
    assert applied == [True, True, False, True]
    for batch in (0, 1, 3):
        without.run(batch)
    assert int(skipping.state.step) == 3
    assert state_digest(skipping.state) == state_digest(without.state)


def test_w11_apply_if_finite_lets_the_fourth_in_and_the_guard_never_does() -> None:
    """Four bad batches in a row, side by side with optax's guard, which counts to three."""
    bad = training.Data(spoil=ALL_BAD)
    plain = optax.sgd(0.1)
    guarded = optax.apply_if_finite(plain, max_consecutive_errors=3)
    rig = Rig(training.program(optimizer=plain, data=bad))
    digest = state_digest(rig.state)
    params = jax.device_get(rig.state.params)
    opt_state = guarded.init(params)
    spoilt = jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan), params)
    theirs = []
    for batch in range(4):
        updates, opt_state = guarded.update(spoilt, opt_state, params)
        params = optax.apply_updates(params, updates)
        theirs.append(all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)))
        assert not rig.run(batch).applied
        assert state_digest(rig.state) == digest
    assert theirs == [True, True, True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_w11_a_bad_slot_is_selected_away_and_not_multiplied(value: float) -> None:
    """0·inf and 0·NaN are NaN: a guard that multiplies by zero would poison sums and metrics."""
    rig = Rig(training.program())
    slots = rig.plan.cut(rig.batches.read(0))
    slots["x"][4, 1, :] = value
    outputs = rig.feed(slots)
    assert outputs.applied
    assert outputs.weight == rig.plan.slots - 1
    assert np.isfinite([outputs.loss, outputs.gradient_norm, outputs.metrics["double"]]).all()
    assert all(np.isfinite(leaf).all() for leaf in leaves(rig.state))


def test_w11_a_gradient_that_is_not_finite_is_found_behind_a_finite_loss() -> None:
    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        # The slope of a square root at zero is infinite; its value is not.
        hidden = jnp.sqrt(jnp.abs(params["a"]).sum() * jnp.min(jnp.abs(batch["x"])))
        return hidden + jnp.mean((batch["x"] @ params["a"] @ params["b"] - batch["y"]) ** 2)

    rig = Rig(training.program(loss=loss, optimizer=OPTIMIZERS["adafactor"]))
    slots = rig.plan.cut(rig.batches.read(0))
    slots["x"][3, 0, 0] = 0.0
    outputs = rig.feed(slots)
    assert np.flatnonzero(~outputs.finite).tolist() == [3]
    assert outputs.applied
    assert np.isfinite(outputs.loss)


def spike(rig: Rig, limits: tuple[float, float], *, since: int) -> Any:
    settings = Settings.of(steps=1000, mask=True, spike_step=since, spike_limits=limits)
    return rig.run(0, settings=settings)


def test_a_loss_above_its_limit_is_skipped_and_one_at_its_limit_is_not() -> None:
    rig = Rig(training.program())
    digest = state_digest(rig.state)
    high = spike(rig, (0.0, np.inf), since=0)
    assert high.spiked
    assert not high.applied
    assert high.finite.all()
    assert state_digest(rig.state) == digest
    same = spike(rig, (float(high.loss), 0.0), since=0)
    assert same.applied
    assert not same.spiked


def test_the_second_limit_is_for_a_state_that_is_one_update_further() -> None:
    """The host does not know yet whether the step in flight was applied; the step does."""
    rig = Rig(training.program())
    assert spike(rig, (np.inf, 0.0), since=0).applied
    assert spike(rig, (np.inf, 0.0), since=0).spiked
    assert spike(rig, (np.inf, 0.0), since=1).applied


def test_a_bad_batch_is_no_spike() -> None:
    rig = Rig(training.program(data=training.Data(spoil=ALL_BAD)))
    outputs = spike(rig, (0.0, 0.0), since=0)
    assert not outputs.spiked
    assert not outputs.applied
