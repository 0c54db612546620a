"""Choosing between the state before a step and the one after it, for states of any kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from trainerd.actors.errors import EngineError
from trainerd.actors.state import PyTree, is_array, strong

_SHOWN = 4


def kept(applied: Any, after: PyTree, before: PyTree) -> PyTree:
    """Take `after` where the scalar `applied` holds, else `before`. Traceable.

    Leaves that are no arrays are taken from `after`. Raises `EngineError` where an update has
    changed the state's structure, or the shape or type of a leaf.
    """
    unchanged(after, before)
    return jax.tree.map(
        lambda new, old: jnp.where(applied, new, old) if is_array(new) else new, after, before
    )


def updated(applied: Any, update: Callable[[], PyTree], before: PyTree) -> PyTree:
    """Take `update()` where the scalar `applied` holds, else `before`. Traceable.

    As `kept`, but the update is a branch: one not taken is not computed, and one that is may change
    a donated state in place, which a selection after it would have to read and write once more.
    """
    made: list[tuple[Any, list[Any]]] = []

    def take() -> list[Any]:
        after = update()
        unchanged(after, before)
        leaves, structure = jax.tree.flatten(after)
        made.append((structure, leaves))
        return [strong(leaf) for leaf in leaves if is_array(leaf)]

    def leave() -> list[Any]:
        return [strong(leaf) for leaf in jax.tree.leaves(before) if is_array(leaf)]

    arrays = iter(jax.lax.cond(applied, take, leave))
    structure, leaves = made[-1]
    chosen = [next(arrays) if is_array(leaf) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, chosen)


def unchanged(after: PyTree, before: PyTree) -> None:
    """Raise `EngineError` where a step has changed the kind of state it was given."""
    came, expected = jax.tree.structure(after), jax.tree.structure(before)
    if not same_structure(came, expected):
        raise EngineError(
            f"a step must return a state of the structure it was given, {expected}, got {came}",
            suggestion="return (new_state, metrics)",
        )
    problems = [
        f"leaf {jax.tree_util.keystr(path) or 'state'} was {_kind(old)}, is {_kind(new)}"
        for (path, new), old in zip(
            jax.tree_util.tree_leaves_with_path(after), jax.tree.leaves(before), strict=True
        )
        if is_array(old) and _kind(new) != _kind(old)
    ]
    if problems:
        more = len(problems) - _SHOWN
        raise EngineError(
            "a step must not change the state's shapes and types: "
            + "; ".join(problems[:_SHOWN])
            + (f"; and {more} more" if more > 0 else ""),
            suggestion="cast what it computes back, e.g. with .astype(old.dtype)",
        )


def same_structure(one: Any, other: Any) -> bool:
    """Whether two tree structures are equal."""
    return bool(one == other)


def _kind(leaf: Any) -> str:
    if not is_array(leaf):
        return type(leaf).__name__
    array = jax.typeof(leaf) if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
    return f"{array.dtype}{list(array.shape)}"
