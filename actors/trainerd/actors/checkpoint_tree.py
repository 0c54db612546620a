"""A state as checkpoints hold it: nested dicts of plain arrays, for any pytree there is.

`params` and `opt_state` may be made of any registered node. On disk each leaf stands under the
names on its path, so that any tool reads it as nested dicts, and that a node type which has
changed its class, but not its leaves, is still restored.
"""

from __future__ import annotations

from typing import Any

import jax

from trainerd.actors.errors import CheckpointError
from trainerd.actors.state import PyTree, TrainState

Nested = dict[str, Any]


def to_nested(state: TrainState) -> Nested:
    """Return `{"params": …, "opt_state": …, "step": …, "rng": …}`; abstract states work too.

    Typed random keys become their data. Raises `CheckpointError` where two leaves would share a
    name on disk.
    """
    nested: Nested = {"params": {}, "opt_state": {}}
    names: set[str] = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        parts = [_name(key) for key in path]
        name = ".".join(parts)
        if name in names:
            raise CheckpointError(
                f'two leaves of the state share the name "{name}"',
                suggestion="rename one of them: a key must not differ in type or dots alone",
            )
        names.add(name)
        node = nested
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = plain(leaf)
    return nested


def from_nested(nested: Nested, like: TrainState) -> TrainState:
    """Rebuild the state that has the structure of `like` from what `to_nested` returned."""
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for path, expected in paths:
        node: Any = nested
        for key in path:
            node = node[_name(key)]
        leaves.append(
            jax.random.wrap_key_data(node, impl=key_implementation(expected))
            if is_key(expected)
            else node
        )
    state: TrainState = jax.tree.unflatten(structure, leaves)
    return state


def leaf_kinds(nested: PyTree) -> dict[str, str]:
    """Name every leaf of a nested state, with its dtype and shape."""
    return {
        "/".join(_name(key) for key in path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(nested)
    }


def _name(key: Any) -> str:
    match key:
        case jax.tree_util.DictKey() | jax.tree_util.FlattenedIndexKey():
            return str(key.key)
        case jax.tree_util.SequenceKey():
            return str(key.idx)
        case jax.tree_util.GetAttrKey():
            return str(key.name)
        case _:
            return str(key)


def plain(leaf: Any) -> Any:
    """Return a leaf as it is stored: of a typed random key, its data. Abstract leaves work too."""
    if not is_key(leaf):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        data = jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding)
    return jax.random.key_data(leaf)


def key_implementation(expected: Any) -> Any:
    """Return the generator of an abstract key, which only a traced one will tell."""
    found: list[Any] = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), expected)
    return found[0]


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed random key."""
    return bool(jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key))
