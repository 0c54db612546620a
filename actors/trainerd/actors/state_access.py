"""The loop's train state, as far as callbacks may touch it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trainerd.actors.callbacks.access import SaveDone
from trainerd.actors.callbacks.orbax_saver import OrbaxSaver
from trainerd.actors.errors import TrainingError
from trainerd.actors.pipeline import Pipeline
from trainerd.actors.reports import Fault
from trainerd.actors.shards import cut_leaves
from trainerd.actors.state import PyTree


class PipelineAccess:
    """Implements `callbacks.StateAccess` over a pipeline, where it is at rest."""

    def __init__(self, pipeline: Pipeline, faulted: Callable[[Fault], None]) -> None:
        self._pipeline, self._report = pipeline, faulted
        self._wanted: _Captured | None = None

    def save(self, path: Path, done: SaveDone) -> None:
        """Begin to save the state to `path`, in Orbax's own layout."""
        OrbaxSaver(self._at_rest).save(path, done)

    def capture(self) -> object:
        """Copy the state to host memory."""
        state = self._at_rest()
        if any(not leaf.sharding.is_fully_addressable for leaf in cut_leaves(state)):
            raise TrainingError(
                "the train state cannot be captured: it is cut over several processes",
                suggestion='set train.state = "replicated", or leave the callback out',
            )
        return _Captured(jax.tree.map(_to_host, state))

    def restore(self, captured: object) -> None:
        """Ask that the run returns `captured`."""
        if not isinstance(captured, _Captured):
            raise TrainingError(
                f"restore() takes what capture() returned, got {type(captured).__name__}"
            )
        self._wanted = captured

    def faulted(self, fault: Fault) -> None:
        """Report a fault that does not stop training."""
        self._report(fault)

    @property
    def asked(self) -> bool:
        """Whether the run is to return another state than its own."""
        return self._wanted is not None

    def final(self) -> PyTree:
        """The state that the run returns: what was asked for, else the one it has reached."""
        state = self._at_rest()
        if self._wanted is None:
            return state
        return jax.tree.map(_like, self._wanted.tree, state)

    def _at_rest(self) -> PyTree:
        if self._pipeline.in_flight or not self._pipeline.whole():
            raise TrainingError(
                "the train state cannot be reached: a step is in flight, or was lost",
                suggestion="name the step by needs_rest(), or use it where an epoch ends",
            )
        return self._pipeline.state


class _Captured:
    def __init__(self, tree: PyTree) -> None:
        self.tree = tree


def _to_host(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array):
        return leaf
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        # A key is a handful of bytes, and has no host form.
        return jax.random.clone(leaf)
    # A copy, not a view: a live view would keep the array from being donated.
    return np.array(leaf)


def _like(leaf: Any, now: Any) -> Any:
    if not isinstance(now, jax.Array) or isinstance(leaf, jax.Array):
        return leaf
    return jax.device_put(leaf, now.sharding)
