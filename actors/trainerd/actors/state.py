"""The training state: everything a later step depends on, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from trainerd.actors.program import Program

PyTree: TypeAlias = Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "opt_state", "step", "rng"),
    meta_fields=(),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Parameters, optimizer state, applied updates (int32 scalar) and the root of all keys.

    `rng` is the root key's data (`jax.random.key_data`), a plain array that any checkpoint tool
    can read. The key of a slot is `fold_in(fold_in(root, step), slot)`.
    """

    params: PyTree
    opt_state: PyTree
    step: jax.Array
    rng: jax.Array


def initial_state(program: Program, seed: int) -> TrainState:
    """Make the state a run begins with. Traceable.

    The seed's key is split: one half goes to `program.init`, the other is the root of all keys.
    Every leaf becomes a strongly typed array, so that a step returns the types it was given.
    """
    init_key, root = jax.random.split(seed_key(seed))
    params = jax.tree.map(_strong, program.init(init_key))
    opt_state = jax.tree.map(_strong, program.optimizer.init(params))
    return TrainState(
        params=params,
        opt_state=opt_state,
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.key_data(root),
    )


def seed_key(seed: int) -> jax.Array:
    """Make the key of a 64-bit seed; both halves count, negative seeds are allowed."""
    unsigned = seed & 0xFFFF_FFFF_FFFF_FFFF
    return jax.random.fold_in(jax.random.key(unsigned & 0xFFFF_FFFF), unsigned >> 32)


def apply_optimizer(
    optimizer: optax.GradientTransformation, state: TrainState, gradients: PyTree
) -> TrainState:
    """Return the state after one update with `gradients` (parameters' shapes). Traceable."""
    gradients = jax.tree.map(lambda g, p: g.astype(p.dtype), gradients, state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    opt_state = jax.tree.map(
        lambda new, old: new if new.dtype == old.dtype else new.astype(old.dtype),
        opt_state,
        state.opt_state,
    )
    return TrainState(
        params=optax.apply_updates(state.params, updates),
        opt_state=opt_state,
        step=state.step + 1,
        rng=state.rng,
    )


def select(condition: jax.Array, chosen: PyTree, other: PyTree) -> PyTree:
    """Take `chosen` where the scalar `condition` holds, else `other`, leaf by leaf.

    Selection, never multiplication: a NaN in the branch not taken leaves no trace.
    """
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)


def _strong(leaf: Any) -> jax.Array:
    array = jnp.asarray(leaf)
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    return jax.lax.convert_element_type(array, array.dtype)
