"""The training state: everything a later step depends on, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trainerd.actors.errors import EngineError
from trainerd.actors.program import Program

PyTree: TypeAlias = Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "opt_state", "step", "rng"),
    meta_fields=("optimizer",),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Parameters, optimizer state, applied updates (int32 scalar) and the root of all keys.

    `rng` is the root key's data (`jax.random.key_data`), a plain array that any checkpoint tool
    can read. The key of a slot is `fold_in(fold_in(root, step), slot)`. `optimizer` is not part of
    the arrays: it is what `apply_gradients` updates with, where somebody wants that.
    """

    params: PyTree
    opt_state: PyTree
    step: jax.Array
    rng: jax.Array
    optimizer: optax.GradientTransformation | None = None

    @staticmethod
    def create(
        params: PyTree, optimizer: optax.GradientTransformation | None = None, *, seed: int = 0
    ) -> TrainState:
        """Make the state before the first update; `params` are copied, Python numbers too."""
        params = jax.tree.map(copied, params)
        opt_state = () if optimizer is None else jax.tree.map(strong, optimizer.init(params))
        return TrainState(
            params=params,
            opt_state=opt_state,
            step=jnp.zeros((), jnp.int32),
            rng=jax.random.key_data(seed_key(seed)),
            optimizer=optimizer,
        )

    def apply_gradients(self, *, grads: PyTree) -> TrainState:
        """Return the state after one update with `grads` (the parameters' shapes). Traceable.

        Raises `EngineError` for a state without an optimizer, and for gradients of another
        structure.
        """
        if self.optimizer is None:
            raise EngineError(
                "apply_gradients needs an optimizer, this TrainState has none",
                suggestion="make it with TrainState.create(params, optimizer)",
            )
        came: Any = jax.tree.structure(grads)
        expected = jax.tree.structure(self.params)
        if came != expected:
            raise EngineError(
                f"grads must have the parameters' structure {expected}, got {came}",
                suggestion="take them with respect to state.params",
            )
        return apply_optimizer(self.optimizer, self, grads)


def initial_state(program: Program, seed: int) -> TrainState:
    """Make the state a run begins with. Traceable.

    The seed's key is split: one half goes to `program.init`, the other is the root of all keys.
    Every leaf becomes a strongly typed array, so that a step returns the types it was given.
    """
    init_key, root = jax.random.split(seed_key(seed))
    params = jax.tree.map(strong, program.init(init_key))
    opt_state = jax.tree.map(strong, program.optimizer.init(params))
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
    params = optax.apply_updates(state.params, updates)
    return replace(state, params=params, opt_state=opt_state, step=state.step + 1)


def select(condition: jax.Array, chosen: PyTree, other: PyTree) -> PyTree:
    """Take `chosen` where the scalar `condition` holds, else `other`, leaf by leaf.

    Selection, never multiplication: a NaN in the branch not taken leaves no trace.
    """
    # XLA copies whatever is cheap into each of its consumers, here all that the condition depends
    # on into what it makes of each leaf: what is compiled, and the time to load it in the next
    # process, would grow with the square of the number of leaves. A square root is too dear for it.
    taken = jnp.sqrt(jnp.asarray(condition, jnp.float32)) > 0
    return jax.tree.map(lambda a, b: jnp.where(taken, a, b), chosen, other)


def learning_rate(opt_state: PyTree) -> dict[str, jax.Array]:
    """The rate of the newest update, where the optimizer exposes it (`inject_hyperparams`)."""
    found = [
        value
        for _, value in optax.tree.get_all_with_path(opt_state, "learning_rate")
        if isinstance(value, jax.Array) and value.shape == ()
    ]
    return {"learning_rate": found[0].astype(jnp.float32)} if len(found) == 1 else {}


def copied(leaf: Any) -> Any:
    """Return a strongly typed copy of an array or a number on its devices; whatever else there is,
    as it is."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            jnp.copy(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf)
        )
    return strong(jnp.array(leaf, copy=True)) if is_array(leaf) else leaf


def is_array(leaf: Any) -> bool:
    """Whether JAX can hold `leaf`: an array or a number."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float, complex))


def strong(leaf: Any) -> jax.Array:
    """Return an array or a number as a strongly typed array."""
    array = jnp.asarray(leaf)
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    return jax.lax.convert_element_type(array, array.dtype)
