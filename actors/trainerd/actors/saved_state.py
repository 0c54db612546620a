"""States of any kind as checkpoints hold them, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_restore import Restored, restore_newest
from trainerd.actors.errors import CheckpointError
from trainerd.actors.reports import Fault
from trainerd.actors.state import PyTree, TrainState, seed_key


def saved_form(state: PyTree, step: int) -> TrainState:
    """Return the `TrainState` that stands for `state` after `step` updates in a checkpoint.

    A `TrainState` is itself. Of any other state the arrays become `params`; leaves that are no
    arrays are the program's, and not saved.
    """
    if isinstance(state, TrainState):
        return replace(state, optimizer=None, step=jnp.int32(step))
    return TrainState(
        params=jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else None, state),
        opt_state=(),
        step=jnp.int32(step),
        rng=jax.random.key_data(seed_key(0)),
    )


def restore_state(
    places: Sequence[Path], like: PyTree, faulted: Callable[[Fault], None]
) -> Restored:
    """Load the newest sound checkpoint of some directories, or the one that a place is.

    Its state has the structure, types and devices of `like`. Raises `CheckpointError` where there
    is none, or where it holds another state.
    """
    abstract = jax.tree.map(_abstract, saved_form(like, 0))
    restored = restore_newest(places, abstract, faulted)
    if restored is None:
        raise nothing_at(places[0])
    state = restored.state
    if isinstance(like, TrainState):
        return replace(restored, state=replace(state, optimizer=like.optimizer))
    held = iter(jax.tree.leaves(state.params))
    return replace(
        restored,
        state=jax.tree.map(lambda leaf: next(held) if isinstance(leaf, jax.Array) else leaf, like),
    )


def nothing_at(place: Path) -> CheckpointError:
    """There is no checkpoint where one was to be."""
    return CheckpointError(
        f"there is no checkpoint in {place}",
        suggestion="pass the directory of an earlier run or one of its checkpoints, or leave out "
        "resume_from to begin anew",
    )


def refuse_newer(directory: Path, step: int) -> None:
    """Raise `CheckpointError` if a run that begins at `step` would meet checkpoints of another."""
    try:
        newest = next(iter(files.durable(directory)), None)
    except OSError:
        # Saving will fail, and be reported.
        return
    if newest is not None and newest.step > step:
        raise CheckpointError(
            f"{directory} holds a checkpoint of step {newest.step}, this run begins at {step}",
            suggestion=f"pass resume_from={str(directory)!r} to continue that run, or name another "
            "directory",
        )


def _abstract(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
