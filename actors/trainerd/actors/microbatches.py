"""Microbatches as step functions are given them: counted, compared, put under one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trainerd.actors.errors import EngineError
from trainerd.actors.state import PyTree


def checked_count(accumulate_steps: Any) -> None:
    """Raise `EngineError` unless it is an integer ≥ 1."""
    if isinstance(accumulate_steps, bool) or not isinstance(accumulate_steps, int):
        raise EngineError(f"accumulate_steps must be an integer, got {accumulate_steps!r}")
    if accumulate_steps < 1:
        raise EngineError(f"accumulate_steps must be ≥ 1, got {accumulate_steps}")


def checked(microbatches: Any, need: int, *, drop_remainder: bool = False) -> Any:
    """Return `need` microbatches as they came; computes nothing.

    A list holds one pytree each; anything else is one pytree with a leading axis. Raises
    `EngineError` where there are too few or too many, or where they are not shaped alike.
    """
    checked_count(need)
    listed = isinstance(microbatches, list)
    got = len(microbatches) if listed else _leading_axis(microbatches)
    if got < need:
        raise EngineError(
            f"not enough microbatches: got {got}, need {need}",
            suggestion=f"put {need} microbatches into each batch, or set accumulate_steps to "
            f"{got or 1}",
        )
    if got > need and not drop_remainder:
        raise EngineError(
            f"too many microbatches: got {got}, need {need}",
            suggestion=f"set accumulate_steps to {got}, or pass drop_remainder=True to "
            "gradient_accumulation_step to train without the surplus",
        )
    if not listed:
        return jax.tree.map(lambda leaf: leaf[:need], microbatches) if got > need else microbatches
    _alike(microbatches[:need])
    return microbatches[:need]


def stacked(microbatches: Any) -> PyTree:
    """Put what `checked` returned under one leading axis. Traceable."""
    if not isinstance(microbatches, list):
        return microbatches
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *microbatches)


def stacked_on_host(microbatches: Any) -> Any:
    """The same where that saves transfers: for microbatches that are on the host."""
    leaves = jax.tree.leaves(microbatches)
    if not isinstance(microbatches, list) or any(isinstance(leaf, jax.Array) for leaf in leaves):
        return microbatches
    return jax.tree.map(lambda *parts: np.stack(parts), *microbatches)


def _leading_axis(tree: PyTree) -> int:
    lengths = {
        jax.tree_util.keystr(path): np.shape(leaf)[:1]
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    if not lengths:
        return 0
    if len(set(lengths.values())) != 1 or () in lengths.values():
        shown = ", ".join(f"{name or 'it'} {list(shape)}" for name, shape in lengths.items())
        raise EngineError(
            f"microbatches must share one leading axis, got {shown}",
            suggestion="pass a list of microbatches, or stack every leaf of them",
        )
    return int(next(iter(lengths.values()))[0])


def _alike(microbatches: Sequence[PyTree]) -> None:
    expected = _outline(microbatches[0])
    # What is wrong, and where, costs ten times as much to say as that nothing is.
    if all(_outline(microbatch) == expected for microbatch in microbatches[1:]):
        return
    first = _kinds(microbatches[0])
    for index, microbatch in enumerate(microbatches):
        kinds = _kinds(microbatch)
        for name in first.keys() | kinds.keys():
            if kinds.get(name) != first.get(name):
                raise EngineError(
                    f"microbatches must be shaped alike: leaf {name or 'microbatch'} is "
                    f"{first.get(name, 'missing')} in microbatch 0 and "
                    f"{kinds.get(name, 'missing')} in microbatch {index}",
                    suggestion="pad them to one shape, and say by weights how many examples of "
                    "each are real",
                )


def _outline(tree: PyTree) -> tuple[Any, list[tuple[Any, Any]]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(np.shape(leaf), _dtype(leaf)) for leaf in leaves]


def _kinds(tree: PyTree) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): f"{_dtype(leaf)}{list(np.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if isinstance(leaf, (np.ndarray, jax.Array)) else np.result_type(leaf)
