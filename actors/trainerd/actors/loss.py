"""The user's loss as the step computes it: checked, in the chosen precision, float32 outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp

from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.errors import ProgramError
from trainerd.actors.program import Program
from trainerd.actors.state import PyTree

LossFunction: TypeAlias = Callable[
    [PyTree, PyTree, jax.Array], tuple[jax.Array, dict[str, jax.Array]]
]


def loss_function(program: Program, arithmetic: Arithmetic) -> LossFunction:
    """Make `(params, batch, key) -> (loss, metrics)`, all float32 scalars.

    Gradients with respect to `params` have the parameters' own types, whatever the precision.
    """

    def loss(
        params: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        if arithmetic.precision == "bfloat16":
            params, batch = jax.tree.map(_narrowed, (params, batch))
        return checked_loss(program, params, batch, key)

    if not arithmetic.remat:
        return loss
    # Saving nothing at all would leave the peak where it is: a slot's loss is one block.
    saved = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    remade: LossFunction = jax.checkpoint(loss, policy=saved)
    return remade


def checked_loss(
    program: Program, params: PyTree, batch: PyTree, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Call the user's loss; accept `loss` or `(loss, metrics)`, refuse anything else by name."""
    returned = program.loss(params, batch, key)
    loss, metrics = returned if isinstance(returned, tuple) else (returned, {})
    loss = jnp.asarray(loss)
    if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ProgramError(
            f"loss must return a floating-point scalar, got {loss.dtype}{list(loss.shape)}",
            suggestion="return the mean over the slot's examples, e.g. jnp.mean(losses)",
        )
    if not isinstance(metrics, Mapping):
        raise ProgramError(
            f"loss must return a dict of metrics beside the loss, got {type(metrics).__name__}"
        )
    scalars = {str(name): jnp.asarray(value) for name, value in metrics.items()}
    for name, value in scalars.items():
        if value.shape != ():
            raise ProgramError(
                f'metric "{name}" must be a scalar, got shape {list(value.shape)}',
                suggestion="return its mean over the slot's examples",
            )
    floats = {name: value.astype(jnp.float32) for name, value in scalars.items()}
    return loss.astype(jnp.float32), floats


def _narrowed(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
