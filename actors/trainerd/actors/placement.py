"""From a process's memory onto the mesh: what is cut over all devices, and what is the same on all.

On one process JAX does it as it is. On several, `device_put` would have all of them compare what
they hold, at every call; here each says what lies on its own devices, and nobody is asked.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from trainerd.actors.checkpoint_tree import is_key, key_implementation, plain
from trainerd.actors.slots import SlotPlan
from trainerd.actors.state import PyTree
from trainerd.actors.step import data_mesh, replicated, spread


class Placement:
    """How a plan's slots lie on a mesh. Safe for threads.

    `rows` are the slots of this process's devices, padding included: all of them where it is alone.
    """

    def __init__(self, mesh: Mesh, plan: SlotPlan) -> None:
        self.alone = is_alone(mesh)
        self._cut, self._same = spread(mesh), replicated(mesh)
        self._padded, self._devices = plan.padded, plan.devices
        self._local = len(mesh.local_devices)
        self.rows = own_rows(mesh, plan)

    def whole(self, host: PyTree) -> PyTree:
        """Place leaves `(padded, …)`, of which this process knows its rows at least."""
        if self.alone:
            return jax.device_put(host, self._cut)
        return self.own(jax.tree.map(lambda leaf: leaf[self.rows.start : self.rows.stop], host))

    def own(self, host: PyTree) -> PyTree:
        """Place this process's rows, leaves `(len(rows), …)`."""
        if self.alone:
            return jax.device_put(host, self._cut)
        return jax.tree.map(lambda leaf: self._placed(leaf, self._padded), host)

    def words(self, word: np.ndarray[Any, Any]) -> jax.Array:
        """Place this process's control word, once for each of its devices."""
        return self._placed(np.tile(word, (self._local, 1)), self._devices)

    def same(self, host: PyTree) -> PyTree:
        """Place what all processes have alike."""
        if self.alone:
            return jax.device_put(host, self._same)
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(
                self._same, np.asarray(leaf), np.shape(leaf)
            ),
            host,
        )

    def _placed(self, leaf: np.ndarray[Any, Any], length: int) -> jax.Array:
        placed: jax.Array = jax.make_array_from_process_local_data(
            self._cut, leaf, (length, *leaf.shape[1:])
        )
        return placed


def own_rows(mesh: Mesh, plan: SlotPlan) -> range:
    """The slots of this process's devices, padding included: all where it is alone."""
    if is_alone(mesh):
        return range(plan.padded)
    first = _first_of_own(mesh)
    return range(first * plan.per_device, (first + len(mesh.local_devices)) * plan.per_device)


def is_alone(mesh: Mesh) -> bool:
    """Whether all devices of a mesh are this process's."""
    return len(mesh.local_devices) == mesh.devices.size


def own_mesh(mesh: Mesh) -> Mesh:
    """The devices of a mesh that are this process's."""
    return mesh if is_alone(mesh) else data_mesh(mesh.local_devices)


def on_mesh(state: PyTree, mesh: Mesh) -> PyTree:
    """Shapes or arrays that are the same on all of `own_mesh(mesh)`, the same on all of `mesh`.

    Of arrays nothing is copied; what the other processes hold must be equal. What lies on all of
    `mesh` already stays as it is.
    """
    if is_alone(mesh):
        return state
    sharding = replicated(mesh)
    return jax.tree.map(lambda leaf: _on(leaf, sharding), state)


def local_view(tree: PyTree) -> PyTree:
    """Arrays that are the same on all devices, as ordinary ones on this process's first device."""
    return jax.tree.map(_local, tree)


def on_host(tree: PyTree) -> PyTree:
    """Copies in this process's memory of what lies on several processes, the same on all.

    Everything else is as it is. Orbax would let each process write a part of such an array.
    """
    spread_out = [leaf for leaf in jax.tree.leaves(tree) if not _whole(leaf)]
    for leaf in spread_out:
        leaf.addressable_data(0).copy_to_host_async()
    return jax.tree.map(
        # A copy: a view would keep the array from being donated.
        lambda leaf: leaf if _whole(leaf) else np.array(leaf.addressable_data(0)),
        tree,
    )


def _whole(leaf: Any) -> bool:
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable


def _local(leaf: Any) -> Any:
    if _whole(leaf):
        return leaf
    if is_key(leaf):
        data = jax.random.key_data(leaf).addressable_data(0)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return leaf.addressable_data(0)


def _on(leaf: Any, sharding: NamedSharding) -> Any:
    if leaf.sharding.num_devices == sharding.num_devices:
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    if is_key(leaf):
        made = _on(plain(leaf), sharding)
        return jax.random.wrap_key_data(made, impl=key_implementation(leaf))
    shards = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, shards)


def _first_of_own(mesh: Mesh) -> int:
    """Where in the mesh this process's devices begin; they stand together."""
    own = jax.process_index()
    places = [at for at, device in enumerate(mesh.devices.flat) if device.process_index == own]
    if places != list(range(places[0], places[0] + len(places))):
        raise ValueError(f"devices of one process must stand together, these stand at {places}")
    return places[0]
