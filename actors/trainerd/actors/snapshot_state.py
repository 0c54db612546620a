"""From a state on the devices to the bytes of a snapshot, and back."""

from __future__ import annotations

import itertools
import math

import jax
import numpy as np

from trainerd.actors.checkpoint_tree import is_key, key_implementation, leaf_kinds, plain
from trainerd.actors.snapshot_file import Bytes
from trainerd.actors.snapshot_format import Layout
from trainerd.actors.snapshot_parts import assembled, held_parts, named, own_parts
from trainerd.actors.state import TrainState


def layout_of(abstract: TrainState) -> Layout:
    """Where the leaves of such a state lie in a snapshot of this process.

    Of a leaf that is cut over the devices a process keeps the parts that its own devices hold, and
    the leaf's kind names them: the snapshots of two processes, or of other numbers of devices, are
    of different layouts.
    """
    leaves = jax.tree.leaves(jax.tree.map(plain, abstract))
    kinds = leaf_kinds(jax.tree.map(plain, abstract))
    named_kinds = {
        name: kind + named(leaf) for (name, kind), leaf in zip(kinds.items(), leaves, strict=True)
    }
    sizes = [
        sum(math.prod(part.shape) for part in own_parts(leaf)) * np.dtype(leaf.dtype).itemsize
        for leaf in leaves
    ]
    return Layout.of(named_kinds, sizes)


def copy_out(state: TrainState, layout: Layout, content: Bytes) -> None:
    """Copy what this process holds of a state's leaves to their places in a file.

    Waits for the state. Its buffers may be donated afterwards.
    """
    # A view of the array itself would keep it from being donated, even after the view is gone.
    held = [held_parts(plain(leaf)) for leaf in jax.tree.leaves(state)]
    for part in itertools.chain.from_iterable(held):
        part.copy_to_host_async()
    for leaf, parts in zip(layout.leaves, held, strict=True):
        at = leaf.at
        for part in parts:
            block = np.asarray(part).reshape(-1).view(np.uint8)
            np.copyto(content[at : at + block.size], block)
            at += block.size


def copy_in(content: Bytes, layout: Layout, abstract: TrainState) -> TrainState:
    """Make a state of the kind, structure and shardings of `abstract` from a file's bytes.

    The arrays are ready, and share no memory with `content`.
    """
    leaves, structure = jax.tree.flatten(abstract)
    stored = [plain(leaf) for leaf in leaves]
    held = [
        content[leaf.at : leaf.at + leaf.bytes].view(np.dtype(kind.dtype))
        for leaf, kind in zip(layout.leaves, stored, strict=True)
    ]
    arrays = assembled(stored, held)
    jax.block_until_ready(arrays)
    for index, array in enumerate(arrays):
        if _within(array, content):
            (arrays[index],) = assembled(stored[index : index + 1], [np.copy(held[index])])
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
