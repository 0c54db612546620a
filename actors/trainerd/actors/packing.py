"""Many single numbers of a step in one array: the host reads them at once.

Each array that the host reads costs it some microseconds, and a step says a dozen numbers. Packed
inside the compiled function they cross as one vector of int32 words, bit for bit.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Tree = TypeVar("Tree")

_WORD_BYTES = 4
_CODES = {
    "int32": "i",
    "uint32": "I",
    "float32": "f",
    "int64": "q",
    "uint64": "Q",
    "float64": "d",
}
"""How `struct` names the types that numbers cross as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How words become a tree of `leaves` leaves: `numbers` says where in it each word's number
    goes, `flags` which of these are truth values, `arrays` where the arrays go."""

    tree: Any
    leaves: int
    codes: str
    numbers: tuple[int, ...]
    flags: tuple[int, ...]
    arrays: tuple[int, ...]


@partial(jax.tree_util.register_dataclass, data_fields=("words", "arrays"), meta_fields=("layout",))
@dataclass(frozen=True, slots=True, kw_only=True)
class Packed(Generic[Tree]):
    """A tree whose single numbers are `words`, an int32 vector; what a compiled function returns.

    Arrays of the tree stay arrays on the devices, to be read by whoever needs one.
    """

    words: jax.Array
    arrays: Sequence[jax.Array]
    layout: _Layout

    def ready(self) -> bool:
        """Whether `read` would not wait."""
        return bool(self.words.is_ready())  # type: ignore[attr-defined]

    def read(self) -> Tree:
        """Wait for the numbers and return the tree with Python numbers in it.

        Raises what the computation that they come from failed with.
        """
        layout = self.layout
        leaves: list[Any] = [None] * layout.leaves
        values = struct.unpack_from(layout.codes, _bytes(self.words))
        for at, value in zip(layout.numbers, values, strict=True):
            leaves[at] = value
        for at in layout.flags:
            leaves[at] = leaves[at] != 0
        for at, array in zip(layout.arrays, self.arrays, strict=True):
            leaves[at] = array
        tree: Tree = jax.tree.unflatten(layout.tree, leaves)
        return tree


def pack(tree: Tree) -> Packed[Tree]:
    """Put the single numbers of `tree` into one vector. Traceable; exact for every type.

    Raises `TypeError` for one that is neither a truth value, an integer nor a real number.
    """
    leaves, structure = jax.tree.flatten(tree)
    every = [jnp.asarray(leaf) for leaf in leaves]
    numbers = tuple(at for at, array in enumerate(every) if array.ndim == 0)
    arrays = tuple(at for at, array in enumerate(every) if array.ndim > 0)
    parts = [_wide(every[at]) for at in numbers]
    words = [jax.lax.bitcast_convert_type(part, jnp.int32).reshape(-1) for part in parts]
    layout = _Layout(
        tree=structure,
        leaves=len(leaves),
        # Without padding between a number of four bytes and one of eight.
        codes="=" + "".join(_CODES[part.dtype.name] for part in parts),
        numbers=numbers,
        flags=tuple(at for at in numbers if every[at].dtype == jnp.bool_),
        arrays=arrays,
    )
    return Packed(
        words=jnp.concatenate(words) if words else jnp.zeros(0, jnp.int32),
        arrays=[every[at] for at in arrays],
        layout=layout,
    )


def packable(dtype: Any) -> bool:
    """Whether numbers of this type can be packed: truth values, integers, real numbers."""
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))


def _wide(number: jax.Array) -> jax.Array:
    """The same number in a type of whole words."""
    dtype = number.dtype
    if not packable(dtype):
        raise TypeError(f"expected truth values, integers or real numbers, got {dtype}")
    if dtype != jnp.bool_ and dtype.itemsize >= _WORD_BYTES:
        return number
    return number.astype(jnp.float32 if jnp.issubdtype(dtype, jnp.floating) else jnp.int32)


def _bytes(words: jax.Array) -> memoryview:
    """The words on the host, waited for; where they are in its memory already, without a copy."""
    try:
        return memoryview(words)
    except BufferError:
        # On another device, on several, or never made: then this raises why.
        return np.asarray(words).data
