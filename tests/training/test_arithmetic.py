"""Precision, clipping and recomputation: what a setting changes and what it must not."""

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
from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.errors import PlanError
from trainerd.actors.loss import loss_function
from trainerd.actors.plan import Plan
from trainerd.actors.step import make_step

pytestmark = pytest.mark.usefixtures("compiled_once")

NARROW = Arithmetic(precision="bfloat16")
SGD = optax.sgd(0.1)


def dtypes(tree: Any) -> set[str]:
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


def outputs_of(rig: Rig) -> Any:
    """The abstract values of the step's outputs, as they are before they cross to the host."""
    step = make_step(rig.program, rig.step.mesh, NARROW)
    slots = rig.plan.cut(rig.batches.read(0))
    weights, mask = rig.plan.weigh(slots, None), rig.plan.mask(())
    words = control.word()[None]
    return jax.eval_shape(step, rig.state, slots, weights, mask, rig.settings, words)[1]


def test_w26_bfloat16_computes_narrowly_and_keeps_the_master_parameters() -> None:
    """The loss sees bfloat16; parameters, moments, loss and metrics stay float32."""
    seen: list[set[str]] = []

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        seen.append(dtypes((params, batch["x"])))
        assert batch["n"].dtype == jnp.int32
        error = jnp.mean((batch["x"] @ params["a"] @ params["b"] - batch["y"]) ** 2)
        seen.append(dtypes(error))
        return error, {"double": 2 * error}

    class Data(training.Data):
        def __getitem__(self, index: int) -> Any:
            return {**super().__getitem__(index), "n": np.int32(index)}

    narrow = Rig(training.program(loss=loss, data=Data()), arithmetic=NARROW)
    wide = Rig(training.program(loss=lambda p, b, k: training_loss(p, b), data=Data()))
    assert seen == [{"bfloat16"}, {"bfloat16"}]
    before = leaves(narrow.state)
    rough, exact = narrow.run(0), wide.run(0)
    assert dtypes(narrow.state.params) == {"float32"}
    assert dtypes(narrow.state.opt_state) == {"float32", "int32"}
    said = outputs_of(narrow)
    assert said.loss.dtype == said.metrics["double"].dtype == np.float32
    np.testing.assert_allclose(rough.loss, exact.loss, rtol=0.02)
    # An update far below bfloat16's resolution is not lost.
    after = leaves(narrow.state)
    assert not np.array_equal(before[0], after[0])
    assert not np.array_equal(after[0], after[0].astype(jnp.bfloat16).astype(np.float32))


def training_loss(params: Any, batch: Any) -> Any:
    return jnp.mean((batch["x"] @ params["a"] @ params["b"] - batch["y"]) ** 2)


def test_w04_slots_are_accumulated_in_float32() -> None:
    """1 + 7 · 2⁻⁹: in bfloat16, whose next number above 1 is 1 + 2⁻⁷, the sum would stay 1."""

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        share = jnp.where(batch["y"][0] == 1, 1.0, 2.0**-9).astype(params["w"].dtype)
        return share * params["w"].sum()

    def init(key: jax.Array) -> Any:
        return {"w": jnp.zeros(1, jnp.bfloat16)}

    for arithmetic in (None, NARROW):
        rig = Rig(training.program(init=init, loss=loss, optimizer=SGD), arithmetic=arithmetic)
        slots = rig.plan.cut(rig.batches.read(0))
        slots["y"][...] = 0.0
        slots["y"][0] = 1.0
        outputs = rig.feed(slots)
        assert float(outputs.gradient_norm) == (1 + 7 * 2.0**-9) / 8
        assert dtypes(rig.state.params) == {"bfloat16"}


def test_clipping_shortens_the_update_and_not_the_reported_norm() -> None:
    """The same update as optax's own clipping in front of the optimizer, bit for bit."""
    free = Rig(training.program(optimizer=SGD))
    norm = float(free.run(0).gradient_norm)
    longest = norm / 3
    clipped = Rig(training.program(optimizer=SGD), arithmetic=Arithmetic(clip_norm=longest))
    start = leaves(clipped.state)
    assert float(clipped.run(0).gradient_norm) == norm
    chained = optax.chain(optax.clip_by_global_norm(longest), SGD)
    theirs = Rig(training.program(optimizer=chained))
    theirs.run(0)
    pairs = list(zip(start, leaves(clipped.state), strict=True))[:2]
    moved = np.sqrt(sum(((after - before) ** 2).sum() for before, after in pairs))
    np.testing.assert_allclose(moved, 0.1 * longest, rtol=1e-4)
    for ours, optaxs in zip(leaves(clipped.state)[:2], leaves(theirs.state)[:2], strict=True):
        np.testing.assert_allclose(ours, optaxs, rtol=1e-6)


def test_a_gradient_within_the_limit_is_not_touched() -> None:
    free = Rig(training.program(optimizer=SGD))
    roomy = Rig(training.program(optimizer=SGD), arithmetic=Arithmetic(clip_norm=1e9))
    free.run(0)
    roomy.run(0)
    for ours, same in zip(leaves(roomy.state), leaves(free.state), strict=True):
        np.testing.assert_array_equal(ours, same)


def test_recomputing_changes_nothing_but_what_is_kept() -> None:
    """Elementwise results between the forward and the backward pass are made again."""

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        hidden = batch["x"] @ params["a"]
        for _ in range(3):
            hidden = jnp.sin(hidden)
        return jnp.mean(hidden**2)

    program = training.program(loss=loss)
    params = training.init(jax.random.key(0))
    batch = {"x": jnp.ones((3, training.INPUTS)), "y": jnp.ones(3)}

    def of(params: Any, arithmetic: Arithmetic) -> Any:
        return loss_function(program, arithmetic)(params, batch, jax.random.key(0))[0]

    made: dict[bool, tuple[int, Any]] = {}
    for remat in (False, True):
        gradient = jax.value_and_grad(lambda p, r=remat: of(p, Arithmetic(remat=r)))
        made[remat] = str(jax.make_jaxpr(gradient)(params)).count("= sin "), gradient(params)
    assert made[True][0] > made[False][0] == 3
    for one, other in zip(*(jax.tree.leaves(value) for _, value in made.values()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"precision": "float16"}, 'precision must be "float32" or "bfloat16", got "float16"'),
        ({"precision": 16}, 'precision must be "float32" or "bfloat16", got 16'),
        ({"clip_norm": 0.0}, "clip_norm must be a finite number > 0, got 0.0"),
        ({"clip_norm": float("nan")}, "clip_norm must be a finite number > 0, got nan"),
        ({"clip_norm": True}, "clip_norm must be a finite number > 0, got True"),
        ({"remat": 1}, "remat must be true or false, got 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(numbers: dict[str, Any], expected: str) -> None:
    with pytest.raises(PlanError) as raised:
        Plan(steps=1, global_batch=1, **numbers)
    assert expected in str(raised.value)
