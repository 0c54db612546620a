"""Where the leaves of a state lie: the same on all devices, or cut over them.

A leaf is cut along its largest dimension that the number of devices divides, the first of several.
Small leaves, and those that no dimension allows it for, are the same on all devices: a collective
costs more than the memory they take. The cut follows from a leaf's shape and the number of devices
alone, so that a parameter, its gradient and its moments are cut alike.
"""

from __future__ import annotations

import math
from typing import Any, Final

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainerd.actors.slot_sums import AXIS, WHOLE
from trainerd.actors.state import PyTree

REPLICATED, SHARDED = "replicated", "sharded"
STATES: Final = (REPLICATED, SHARDED)
LEAST_ELEMENTS = 4096
"""Leaves of fewer elements stay whole: 16 KiB of float32."""


def cut_dimension(leaf: Any, devices: int) -> int:
    """The dimension that `leaf` is cut along over so many devices; `WHOLE`: none."""
    if devices == 1 or math.prod(leaf.shape) < LEAST_ELEMENTS or _is_key(leaf):
        return WHOLE
    fit = [axis for axis, size in enumerate(leaf.shape) if size and size % devices == 0]
    return max(fit, key=lambda axis: (leaf.shape[axis], -axis), default=WHOLE)


def spec(axis: int) -> PartitionSpec:
    """How a leaf is cut along that dimension; `WHOLE`: it is not."""
    return PartitionSpec() if axis == WHOLE else PartitionSpec(*[None] * axis, AXIS)


def shardings(tree: PyTree, mesh: Mesh, *, sharded: bool) -> PyTree:
    """Where each leaf of `tree` lies on `mesh`."""
    whole, devices = NamedSharding(mesh, PartitionSpec()), mesh.devices.size
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, spec(cut_dimension(leaf, devices))) if sharded else whole,
        tree,
    )


def cut_leaves(tree: PyTree) -> list[Any]:
    """The leaves of `tree`, arrays or their shapes, that are not the same on all devices."""
    return [
        leaf
        for leaf in jax.tree.leaves(tree)
        if (placed := getattr(leaf, "sharding", None)) is not None
        and not placed.is_fully_replicated
    ]


def cuts(tree: PyTree) -> PyTree | None:
    """The dimension that each leaf of `tree` is cut along, `WHOLE` for none; None: no leaf is."""
    if not cut_leaves(tree):
        return None
    return jax.tree.map(_cut_of, tree)


def _cut_of(leaf: Any) -> int:
    names = tuple(leaf.sharding.spec)
    return names.index(AXIS) if AXIS in names else WHOLE


def _is_key(leaf: Any) -> bool:
    return bool(jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key))
