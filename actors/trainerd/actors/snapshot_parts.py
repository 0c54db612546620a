"""Which parts of a leaf this process's devices hold, and arrays made of such parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

Index = tuple[slice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A block of a leaf and the devices of this process that hold it, in order."""

    index: Index
    shape: tuple[int, ...]
    devices: tuple[jax.Device, ...]


def own_parts(leaf: Any) -> list[Part]:
    """The parts of `leaf`, an array or its shape, in the order in which they lie in the leaf.

    Of one that is the same on all devices, or lies nowhere yet, there is one: all of it.
    """
    if leaf.sharding is None:
        return [Part(index=_whole(leaf), shape=leaf.shape, devices=())]
    devices: dict[tuple[int, ...], list[jax.Device]] = {}
    indices: dict[tuple[int, ...], Index] = {}
    for device, index in leaf.sharding.addressable_devices_indices_map(leaf.shape).items():
        place = tuple(cut.indices(size)[0] for cut, size in zip(index, leaf.shape, strict=True))
        devices.setdefault(place, []).append(device)
        indices[place] = index
    shape = leaf.sharding.shard_shape(leaf.shape)
    return [
        Part(index=indices[place], shape=shape, devices=tuple(devices[place]))
        for place in sorted(devices)
    ]


def named(leaf: Any) -> str:
    """What tells the parts that this process holds from all others; empty: it holds all of it."""
    parts = own_parts(leaf)
    if len(parts) == 1 and parts[0].shape == leaf.shape:
        return ""
    blocks = (
        ",".join(
            ":" if size == whole else f"{cut.start or 0}:{(cut.start or 0) + size}"
            for cut, size, whole in zip(part.index, part.shape, leaf.shape, strict=True)
        )
        for part in parts
    )
    return f" {' '.join(blocks)}"


def held_parts(leaf: jax.Array) -> list[jax.Array]:
    """What this process's devices hold of `leaf`, once each, in the order of `own_parts`."""
    if leaf.sharding.is_fully_replicated:
        return [leaf.addressable_data(0)]
    held = {shard.device: shard.data for shard in leaf.addressable_shards}
    return [held[part.devices[0]] for part in own_parts(leaf)]


def assembled(kinds: Sequence[Any], contents: Sequence[np.ndarray[Any, Any]]) -> list[jax.Array]:
    """Arrays of `kinds`, with their shardings, of the parts in `contents`, one after the other.

    `contents`: of each leaf its elements, flat. The arrays may share memory with it.
    """
    flat: list[np.ndarray[Any, Any]] = []
    places: list[jax.Device | None] = []
    for kind, content in zip(kinds, contents, strict=True):
        at = 0
        for part in own_parts(kind):
            size = int(np.prod(part.shape, dtype=np.int64))
            block = content[at : at + size].reshape(part.shape)
            at += size
            devices = part.devices or (None,)
            flat += [block] * len(devices)
            places += devices
    single = iter(jax.device_put(flat, places))
    return [_array(kind, single) for kind in kinds]


def _array(kind: Any, single: Any) -> jax.Array:
    if kind.sharding is None:
        array: jax.Array = next(single)
        return array
    count = len(kind.sharding.addressable_devices)
    return jax.make_array_from_single_device_arrays(
        kind.shape, kind.sharding, [next(single) for _ in range(count)]
    )


def _whole(leaf: Any) -> Index:
    return tuple(slice(None) for _ in leaf.shape)
