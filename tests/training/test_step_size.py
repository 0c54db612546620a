"""What is compiled grows with the parameters as they do, and not with their square."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from trainerd.actors import TrainState, control, create_gradient_accumulation_step_fn
from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.program import Program
from trainerd.actors.slots import plan_slots
from trainerd.actors.state import initial_state
from trainerd.actors.step import Settings, data_mesh, make_step

FEW, MANY = 6, 24


def params(leaves: int) -> list[jax.Array]:
    return [jnp.full((4 + number, 3), 0.1) for number in range(leaves)]


def loss(params: list[jax.Array], batch: Any) -> jax.Array:
    return sum((jnp.sum(leaf * jnp.mean(batch)) for leaf in params), jnp.float32(0.0))


def instructions(step: Callable[..., Any], *inputs: Any) -> int:
    """Of the step as XLA runs it on this machine."""
    text = jax.jit(step).lower(*inputs).compile().as_text()
    assert text is not None
    return text.count(" = ")


def programs_step(leaves: int) -> int:
    program = Program(
        init=lambda key: params(leaves),
        loss=lambda params, batch, key: loss(params, batch),
        optimizer=optax.sgd(0.1),
        data=[],
    )
    plan = plan_slots(global_batch=4, devices=1, microbatch=1)
    return instructions(
        make_step(program, data_mesh(jax.devices()[:1]), Arithmetic()),
        initial_state(program, 0),
        jnp.zeros((plan.padded, plan.slot_examples, 2)),
        jnp.ones(plan.padded),
        jnp.zeros(plan.padded, bool),
        Settings.of(steps=10, mask=True),
        jnp.zeros((1, control.LANES), jnp.int32),
    )


def functions_step(leaves: int) -> int:
    step = create_gradient_accumulation_step_fn(loss, 4)
    state = TrainState.create(params(leaves), optax.sgd(0.1))
    return instructions(step.run, state, jnp.zeros((4, 2)), None)


@pytest.mark.parametrize("size", [programs_step, functions_step])
def test_a_step_grows_with_the_number_of_leaves(size: Callable[[int], int]) -> None:
    assert size(MANY) < size(FEW) * MANY / FEW
