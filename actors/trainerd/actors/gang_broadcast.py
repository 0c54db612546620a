"""A state from one process to all others, over the gang's own collectives, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from trainerd.actors.checkpoint_tree import is_key, key_implementation, plain
from trainerd.actors.placement import Placement
from trainerd.actors.slot_sums import AXIS
from trainerd.actors.slots import SlotPlan
from trainerd.actors.state import TrainState
from trainerd.actors.step import replicated

CHUNK_WORDS = 1 << 22
"""16 MiB at a time: memory for it is needed beside the state, once a device."""

Words = np.ndarray[Any, np.dtype[np.int32]]


def broadcast(
    state: TrainState | None, abstract: TrainState, mesh: Mesh, *, source: int
) -> TrainState:
    """Return `state` of process `source`, on this process's own devices. All processes call it.

    `state` None: this is not the source. `abstract` gives structure, shapes, dtypes and where they
    lie, on this process's own devices. Waits for the arrays.
    """
    leaves, structure = jax.tree.flatten(abstract)
    kinds = [plain(leaf) for leaf in leaves]
    sizes = [_words(kind) for kind in kinds]
    total = sum(sizes)
    content = np.zeros(total, np.int32)
    if state is not None:
        _pack([plain(leaf) for leaf in jax.tree.leaves(state)], sizes, content)
    chunk = max(1, min(CHUNK_WORDS, total))
    send = _Sender(mesh, chunk)
    for at in range(0, total, chunk):
        own = content[at : at + chunk]
        own[:] = send(own, sends=jax.process_index() == source)[: len(own)]
    arrays = [
        jax.device_put(
            words.view(np.uint8)[: _bytes(kind)].view(np.dtype(kind.dtype)).reshape(kind.shape),
            kind.sharding,
        )
        for kind, words in zip(kinds, _cut(content, sizes), strict=True)
    ]
    # Nothing may share memory with `content`, which JAX might take for its own on a CPU.
    arrays = jax.block_until_ready([jax.numpy.copy(array) for array in arrays])
    made: TrainState = jax.tree.unflatten(
        structure,
        [
            jax.random.wrap_key_data(array, impl=key_implementation(leaf))
            if is_key(leaf)
            else array
            for array, leaf in zip(arrays, leaves, strict=True)
        ],
    )
    return made


class _Sender:
    """Sums what one process has and zeros of all others: as integers that is exact."""

    def __init__(self, mesh: Mesh, chunk: int) -> None:
        devices = mesh.devices.size
        plan = SlotPlan(slots=devices, slot_examples=1, devices=devices)
        self._placement = Placement(mesh, plan)
        self._zeros = np.zeros((len(mesh.local_devices), chunk), np.int32)
        whole = replicated(mesh)
        summed = jax.shard_map(
            lambda words: jax.lax.psum(words[0], AXIS),
            mesh=mesh,
            in_specs=PartitionSpec(AXIS),
            out_specs=PartitionSpec(),
        )
        self._sum = jax.jit(summed, out_shardings=whole)

    def __call__(self, words: Words, *, sends: bool) -> Words:
        rows = self._zeros
        if sends:
            rows = np.zeros_like(rows)
            rows[0, : len(words)] = words
        # Compiled at the first call: nobody waits in the collective for another's compilation
        # longer than that takes.
        return np.asarray(self._sum(self._placement.own(rows)).addressable_data(0))


def _words(kind: Any) -> int:
    return -(-_bytes(kind) // 4)


def _bytes(kind: Any) -> int:
    return int(kind.size * np.dtype(kind.dtype).itemsize)


def _pack(leaves: list[Any], sizes: list[int], content: Words) -> None:
    for leaf, place in zip(leaves, _cut(content, sizes), strict=True):
        held = np.ascontiguousarray(leaf.addressable_data(0)).reshape(-1).view(np.uint8)
        place.view(np.uint8)[: held.size] = held


def _cut(content: Words, sizes: list[int]) -> Iterator[Words]:
    at = 0
    for size in sizes:
        yield content[at : at + size]
        at += size
