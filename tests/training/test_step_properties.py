"""What holds for all weights, masks, orders and numbers of devices: the mean over what counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fakes import training
from fakes.step_rig import Rig, leaves
from trainerd.actors.digest import state_digest
from trainerd.actors.step import Settings

pytestmark = pytest.mark.usefixtures("compiled_once")

SLOTS = 8
RATE = 0.5
OPTIMIZER = optax.sgd(RATE)
BAD = (np.nan, np.inf, -np.inf)


def init(key: jax.Array) -> Any:
    return {"w": jnp.linspace(-1.0, 1.0, training.INPUTS)}


def loss(params: Any, batch: Any, key: jax.Array) -> Any:
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)


PROGRAM = training.program(init=init, loss=loss, optimizer=OPTIMIZER)


@dataclass(frozen=True, kw_only=True)
class Feed:
    """One step's inputs, slot by slot. `spoilt`: slot -> the number put into its data."""

    weights: tuple[float, ...]
    forced: tuple[int, ...]
    spoilt: dict[int, float]
    order: tuple[int, ...]
    masks: bool


FEEDS = st.builds(
    Feed,
    weights=st.tuples(*[st.sampled_from([0.0, 1.0]) | st.floats(0.5, 1000.0, width=32)] * SLOTS),
    forced=st.sets(st.integers(0, SLOTS - 1)).map(lambda slots: tuple(sorted(slots))),
    spoilt=st.dictionaries(st.integers(0, SLOTS - 1), st.sampled_from(BAD), max_size=3),
    order=st.permutations(range(SLOTS)).map(tuple),
    masks=st.booleans(),
)


def fed(rig: Rig, feed: Feed, *, ordered: bool) -> tuple[Any, np.ndarray]:
    """Run one step; return its outputs and the parameters after it.

    With `ordered` the slots are fed as they are, else in `feed.order`; masks and weights follow.
    """
    order = list(range(SLOTS) if ordered else feed.order)
    slots = rig.plan.cut(rig.batches.read(0))
    for slot, value in feed.spoilt.items():
        slots["x"][slot, 0, 0] = value
    weights = np.zeros(rig.plan.padded, np.float32)
    weights[:SLOTS] = np.asarray(feed.weights, np.float32)[order]
    shuffled = {name: np.copy(leaf) for name, leaf in slots.items()}
    for name, leaf in slots.items():
        shuffled[name][:SLOTS] = leaf[order]
    outputs = rig.feed(
        shuffled,
        weights=weights,
        forced=tuple(order.index(slot) for slot in feed.forced),
        settings=Settings.of(steps=9, mask=feed.masks),
    )
    return outputs, leaves(rig.state)[0]


def reference(feed: Feed) -> tuple[np.ndarray, float, np.ndarray, float]:
    """By NumPy in float64: which slots count, mean loss, mean gradient, the gradients' scale."""
    rig = Rig(PROGRAM)
    slots = rig.plan.cut(rig.batches.read(0))
    start = leaves(rig.state)[0].astype(np.float64)
    weights = np.asarray(feed.weights, np.float32).astype(np.float64)
    bad = np.isin(np.arange(SLOTS), list(feed.spoilt))
    counted = (weights > 0) & ~np.isin(np.arange(SLOTS), feed.forced) & ~(bad & feed.masks)
    if not counted.any() or (bad & counted).any():
        return counted, np.nan, np.full_like(start, np.nan), np.nan
    x, y = (slots[name].astype(np.float64) for name in "xy")
    off = x @ start - y
    share = np.where(counted, weights, 0.0) / weights[counted].sum()
    gradients = 2 * np.einsum("se,sei->si", off, x) / off.shape[1]
    scale = float(share @ np.abs(gradients).max(axis=1))
    return counted, float(share @ (off**2).mean(axis=1)), share @ gradients, scale


@pytest.mark.parametrize("devices", range(1, 9))
@settings(max_examples=25, deadline=None)
@given(feed=FEEDS)
def test_w03_w11_t23_a_step_is_the_mean_over_what_counted(devices: int, feed: Feed) -> None:
    rig = Rig(PROGRAM, devices=devices)
    digest, start = state_digest(rig.state), leaves(rig.state)[0]
    outputs, after = fed(rig, feed, ordered=False)
    counted, mean_loss, gradient, scale = reference(feed)
    padding = outputs.finite.shape[0] - SLOTS
    assert outputs.counted.tolist() == [*counted[list(feed.order)], *[False] * padding]
    assert outputs.finite[SLOTS:].all(), "padding is never a fault"
    np.testing.assert_allclose(
        outputs.weight, np.asarray(feed.weights, np.float32)[counted].sum(), rtol=1e-6
    )
    if np.isnan(mean_loss):
        event("no-op")
        assert not outputs.applied
        assert state_digest(rig.state) == digest
        return
    event("applied")
    assert outputs.applied
    np.testing.assert_allclose(outputs.loss, mean_loss, rtol=1e-5)
    np.testing.assert_allclose(after, start - RATE * gradient, rtol=1e-5, atol=1e-5 * scale)
    # Neither the number of devices nor the order changes more than rounding.
    alone, moved = fed(Rig(PROGRAM), feed, ordered=True)
    np.testing.assert_allclose(outputs.loss, alone.loss, rtol=1e-6)
    np.testing.assert_allclose(after, moved, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("devices", [1, 3, 8])
def test_all_slots_masked_is_a_no_op(devices: int) -> None:
    rig = Rig(PROGRAM, devices=devices)
    digest = state_digest(rig.state)
    outputs = rig.run(0, forced=tuple(range(SLOTS)))
    assert not outputs.applied
    assert outputs.weight == 0
    assert np.isnan(outputs.loss)
    assert state_digest(rig.state) == digest


@pytest.mark.parametrize("devices", [1, 3, 8])
def test_w01_the_loss_is_traced_once_and_evaluated_once_a_slot(devices: int) -> None:
    """No evaluation to learn shapes, none twice: ⌈slots/devices⌉·devices an update."""
    traces, evaluations = [], []

    def counted(params: Any, batch: Any, key: jax.Array) -> Any:
        traces.append(1)
        jax.debug.callback(lambda _: evaluations.append(1), batch["y"][0])
        return loss(params, batch, key)

    rig = Rig(training.program(init=init, loss=counted, optimizer=OPTIMIZER), devices=devices)
    jax.effects_barrier()
    assert evaluations == []
    for batch in range(2):
        rig.run(batch)
        jax.effects_barrier()
        assert len(evaluations) == (batch + 1) * rig.plan.padded
    assert rig.plan.padded == -(-SLOTS // devices) * devices
    assert len(traces) == 1


def test_w23_every_slot_and_step_has_a_key_of_its_own_on_any_number_of_devices() -> None:
    def random_loss(params: Any, batch: Any, key: jax.Array) -> Any:
        return jax.random.uniform(key) + 0 * params["w"].sum()

    program = training.program(init=init, loss=random_loss, optimizer=OPTIMIZER)
    drawn = {}
    for devices in (1, 3):
        rig = Rig(program, devices=devices)
        drawn[devices] = [
            float(rig.run(0, forced=tuple(s for s in range(SLOTS) if s != slot)).loss)
            for _ in range(2)
            for slot in range(SLOTS)
        ]
    assert drawn[1] == drawn[3]
    assert len(set(drawn[1])) == 2 * SLOTS
