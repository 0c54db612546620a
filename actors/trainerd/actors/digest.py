"""The state digest: one number that two states share only if every byte of them is equal."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np

from trainerd.actors.state import PyTree


def state_digest(tree: PyTree) -> str:
    """Return SHA-256, in hexadecimal, over every leaf of `tree`, sorted by tree path.

    A leaf is hashed as its path, dtype, shape and little-endian C-order bytes, each field with
    its length in front so that no two trees share an encoding. Typed random keys count by their
    key data. Waits for the arrays; every leaf must be addressable from this process.
    """
    total = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for path, leaf in sorted(((jax.tree_util.keystr(p), x) for p, x in leaves), key=_first):
        array, dtype = _host(leaf)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        for part in (path.encode(), dtype.encode(), repr(array.shape).encode()):
            total.update(len(part).to_bytes(8, "little"))
            total.update(part)
        content = np.ascontiguousarray(little).tobytes()
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()


def _first(item: tuple[str, Any]) -> str:
    return item[0]


def _host(leaf: Any) -> tuple[np.ndarray[Any, Any], str]:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf)), str(leaf.dtype)
    array = np.asarray(leaf)
    return array, array.dtype.name
