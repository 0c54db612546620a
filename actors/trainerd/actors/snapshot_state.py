"""From a state on the devices to the bytes of a snapshot, and back."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from trainerd.actors.checkpoint_tree import is_key, key_implementation, leaf_kinds, plain
from trainerd.actors.snapshot_file import Bytes
from trainerd.actors.snapshot_format import Layout
from trainerd.actors.state import TrainState


def layout_of(abstract: TrainState) -> Layout:
    """Where the leaves of such a state lie in a snapshot."""
    stored = jax.tree.map(plain, abstract)
    sizes = [leaf.size * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(stored)]
    return Layout.of(leaf_kinds(stored), sizes)


def unfit_for_memory(abstract: TrainState) -> str:
    """Why one process cannot keep snapshots of such states; empty: it can."""
    leaves: list[Any] = jax.tree.leaves(abstract)
    if not all(leaf.sharding is None or leaf.sharding.is_fully_replicated for leaf in leaves):
        return "the state is spread over several devices"
    return ""


def copy_out(state: TrainState, layout: Layout, content: Bytes) -> None:
    """Copy a state's leaves, which are the same on all devices, to their places in a file.

    Waits for the state. Its buffers may be donated afterwards.
    """
    # A view of the array itself would keep it from being donated, even after the view is gone.
    shards = [plain(leaf).addressable_data(0) for leaf in jax.tree.leaves(state)]
    for shard in shards:
        shard.copy_to_host_async()
    for leaf, shard in zip(layout.leaves, shards, strict=True):
        held = np.asarray(shard).reshape(-1).view(np.uint8)
        np.copyto(content[leaf.at : leaf.at + leaf.bytes], held)


def copy_in(content: Bytes, layout: Layout, abstract: TrainState) -> TrainState:
    """Make a state of the kind, structure and shardings of `abstract` from a file's bytes.

    The arrays are ready, and share no memory with `content`.
    """
    leaves, structure = jax.tree.flatten(abstract)
    stored = [plain(leaf) for leaf in leaves]
    held = [
        content[leaf.at : leaf.at + leaf.bytes].view(np.dtype(kind.dtype)).reshape(kind.shape)
        for leaf, kind in zip(layout.leaves, stored, strict=True)
    ]
    arrays = jax.device_put(held, [kind.sharding for kind in stored])
    jax.block_until_ready(arrays)
    for index, array in enumerate(arrays):
        if _within(array, content):
            arrays[index] = jax.device_put(np.copy(held[index]), stored[index].sharding)
    state: TrainState = jax.tree.unflatten(
        structure,
        [
            jax.random.wrap_key_data(array, impl=key_implementation(leaf))
            if is_key(leaf)
            else array
            for array, leaf in zip(arrays, leaves, strict=True)
        ],
    )
    return state


def _within(array: jax.Array, content: Bytes) -> bool:
    """Whether JAX took the file's memory for an array, instead of copying it."""
    begin = content.ctypes.data
    return any(
        shard.device.platform == "cpu"
        and begin <= shard.data.unsafe_buffer_pointer() < begin + content.nbytes
        for shard in array.addressable_shards
    )
