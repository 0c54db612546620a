"""The whole of a state that is cut over several processes, in the memory of one host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from trainerd.actors.checkpoint_tree import is_key, plain
from trainerd.actors.digest import state_digest
from trainerd.actors.errors import PeerLostError
from trainerd.actors.placement import local_view
from trainerd.actors.state import PyTree, TrainState
from trainerd.actors.step import replicated


class Whole:
    """Makes what is cut over `mesh` the same on all of its devices. All processes call it alike."""

    def __init__(self, mesh: Mesh) -> None:
        self._gather = _identity(replicated(mesh))

    def __call__(self, tree: PyTree) -> PyTree:
        """Return `tree` whole; a leaf that is so already is the same array."""
        return jax.tree.map(
            lambda leaf: leaf if leaf.sharding.is_fully_replicated else self._gather(leaf), tree
        )


@functools.cache
def _identity(sharding: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    """One for all: it is compiled once for each shape."""
    return jax.jit(lambda leaf: leaf, out_shardings=sharding)


class Gathering:
    """Gathers states at rest, leaf by leaf: no device holds more than one whole leaf beside its
    part. All processes call `gather` at the same boundaries; the first one keeps what comes, in
    its host's memory, until the run has gone on. Owned by the loop.
    """

    def __init__(self, mesh: Mesh, *, keeps: bool) -> None:
        """`keeps`: this is the process that saves."""
        self._whole, self._keeps = Whole(mesh), keeps
        self._step, self._by_all = -1, False
        self._held: TrainState | None = None

    def gather(self, state: TrainState, step: int, *, by_all: bool = False) -> None:
        """Gather the state that has reached `step`, unless that was done. `by_all`: each process
        keeps a copy. Raises `PeerLostError`."""
        if step == self._step and (self._by_all or not by_all):
            return
        # Not two copies at once.
        self.forget()
        keeps = self._keeps or by_all
        try:
            leaves, structure = jax.tree.flatten(state)
            held = [self._fetched(leaf, keeps=keeps) for leaf in leaves]
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise
            text = (str(error).strip().splitlines() or ["no message"])[0]
            raise PeerLostError(f"the state could not be gathered: {text}") from error
        self._step, self._by_all = step, by_all
        self._held = jax.tree.unflatten(structure, held) if keeps else None

    def held(self, step: int) -> TrainState:
        """The state that was gathered, as arrays on the host."""
        assert self._step == step, "a save follows a gathering"
        assert self._held is not None, "the process that saves keeps what is gathered"
        made: TrainState = jax.tree.map(lambda leaf: np.asarray(plain(leaf)), self._held)
        return made

    def digest(self, state: TrainState, step: int) -> str:
        """The digest of the state that was gathered; empty: it was not."""
        del state
        return state_digest(self._held) if self._held is not None and self._step == step else ""

    def forget(self) -> None:
        """The run goes on: let go of what was gathered."""
        self._step, self._by_all, self._held = -1, False, None

    def _fetched(self, leaf: jax.Array, *, keeps: bool) -> Any:
        whole = self._whole(leaf)
        if not keeps:
            # One leaf at a time, as on the process that copies it.
            whole.block_until_ready()
            return None
        if is_key(whole):
            return local_view(whole)
        # A copy: a view would keep an array from being donated.
        return np.array(whole.addressable_data(0))
