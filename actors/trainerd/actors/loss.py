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

GradientFunction: TypeAlias = Callable[
    [PyTree, PyTree, jax.Array], tuple[tuple[jax.Array, dict[str, jax.Array]], PyTree]
]


def gradient_function(program: Program, arithmetic: Arithmetic, parts: int = 1) -> GradientFunction:
    """Make `(params, slot, key) -> ((loss, metrics), gradients)` of one slot.

    With several `parts` the slot's examples are cut into so many equal blocks, in order, computed
    one after the other with the key `fold_in(key, part)`. Loss, metrics and gradients are then the
    means over the parts, summed in float32 in their order: what the whole slot gives, but for
    rounding, where the program ignores the key and its loss is a mean over examples.
    """
    whole: GradientFunction = jax.value_and_grad(loss_function(program, arithmetic), has_aux=True)
    if parts == 1:
        return whole

    def in_parts(
        params: PyTree, slot: PyTree, key: jax.Array
    ) -> tuple[tuple[jax.Array, dict[str, jax.Array]], PyTree]:
        def body(total: PyTree, numbered: tuple[jax.Array, PyTree]) -> tuple[PyTree, PyTree]:
            part, examples = numbered
            said, gradients = whole(params, examples, jax.random.fold_in(key, part))
            added = jax.tree.map(lambda t, g: t + g.astype(jnp.float32), total, gradients)
            return added, said

        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params)
        cut = jax.tree.map(
            lambda leaf: leaf.reshape(parts, leaf.shape[0] // parts, *leaf.shape[1:]), slot
        )
        total, said = jax.lax.scan(body, zeros, (jnp.arange(parts), cut))
        loss, metrics = jax.tree.map(lambda each: jnp.sum(each) / parts, said)
        return (loss, metrics), jax.tree.map(lambda leaf: leaf / parts, total)

    return in_parts


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
