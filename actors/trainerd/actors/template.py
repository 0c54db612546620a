"""What every example looks like, and batches made of examples that look so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from trainerd.actors.errors import DataError
from trainerd.actors.state import PyTree

Array: TypeAlias = np.ndarray[Any, Any]

WHOLE = slice(None)
"""All examples of a batch."""


class Template:
    """Structure, shapes and dtypes of an example, taken from the first that can be read.

    `tree` holds a `jax.ShapeDtypeStruct` for each leaf, with the dtype JAX computes in.
    """

    def __init__(self, example: Any, name: str) -> None:
        """Look at an example; `name` is what errors call it. Raises `DataError`."""
        leaves, self._structure = _flatten(example, name, -1)
        if not leaves:
            raise DataError(
                f"an example must hold at least one array, got {example!r:.100}",
                suggestion=_of_nothing(example),
            )
        self._names = _leaf_names(example)
        self._expected = []
        for leaf, leaf_name in zip(leaves, self._names, strict=True):
            array = _array(leaf)
            if array is None:
                raise DataError(
                    f"leaf {leaf_name} of {name} is {_what(leaf)}, expected an array of numbers",
                    suggestion="convert it to integers or floats in the source",
                )
            self._expected.append(jax.ShapeDtypeStruct(array.shape, _dtype(array)))
        self.tree: PyTree = jax.tree.unflatten(self._structure, self._expected)

    def row(self, example: Any, name: str, batch: int) -> list[Array]:
        """Return an example's arrays. Raises a `DataError` that names the batch and the leaf."""
        leaves, structure = _flatten(example, name, batch)
        if not _same(structure, self._structure):
            raise DataError(
                f"{name} in batch {batch} has the structure {structure}, expected "
                f"{self._structure}{self._changes(example)}",
                batch=batch,
                suggestion=_of_nothing(example) or "give every example the same keys",
            )
        if all(map(_is_as_expected, leaves, self._expected)):
            return leaves
        return [
            _checked(leaf, expected, f"leaf {leaf_name} of {name} in batch {batch}", batch)
            for leaf, expected, leaf_name in zip(leaves, self._expected, self._names, strict=True)
        ]

    def batch(self, rows: Sequence[list[Array]], name: Callable[[int], str], batch: int) -> PyTree:
        """Stack rows into leaves `(len(rows), …)`; `name` names the example of a row."""
        if not rows:
            empty = [np.zeros((0, *each.shape), each.dtype) for each in self._expected]
            return jax.tree.unflatten(self._structure, empty)
        columns = []
        for column, expected, leaf in zip(
            zip(*rows, strict=True), self._expected, self._names, strict=True
        ):
            stacked = np.stack(column)
            row = _beyond(stacked, np.dtype(expected.dtype))
            if row is not None:
                raise DataError(
                    f"leaf {leaf} of {name(row)} in batch {batch} holds an integer that does not "
                    f"fit {np.dtype(expected.dtype).name}",
                    batch=batch,
                    suggestion="use smaller numbers in the source, or floats",
                )
            columns.append(stacked.astype(expected.dtype, copy=False))
        return jax.tree.unflatten(self._structure, columns)

    def _changes(self, example: Any) -> str:
        came = _leaf_names(example)
        missing = [name for name in self._names if name not in came]
        further = [name for name in came if name not in self._names]
        return (f"; leaf {', '.join(missing)} is missing" if missing else "") + (
            f"; leaf {', '.join(further)} is new" if further else ""
        )


def _flatten(example: Any, name: str, batch: int) -> tuple[list[Any], Any]:
    try:
        leaves, structure = jax.tree.flatten(example)
    except Exception as error:
        raise DataError(
            f"{name} is not a pytree: {type(error).__name__}: {error}",
            batch=batch,
            suggestion="return a dict, tuple or list of arrays",
        ) from error
    return leaves, structure


def _leaf_names(example: Any) -> list[str]:
    return [
        jax.tree_util.keystr(path) or "example"
        for path, _ in jax.tree_util.tree_leaves_with_path(example)
    ]


def _is_as_expected(leaf: Any, expected: jax.ShapeDtypeStruct) -> bool:
    """Whether nothing need be checked or converted: nearly every leaf of nearly every source."""
    return (
        type(leaf) is np.ndarray and leaf.dtype == expected.dtype and leaf.shape == expected.shape
    )


def _checked(leaf: Any, expected: jax.ShapeDtypeStruct, name: str, batch: int) -> Array:
    array = _array(leaf)
    if array is None or array.shape != expected.shape or _dtype(array) != expected.dtype:
        came = _what(leaf) if array is None else _kind(array.shape, _dtype(array))
        raise DataError(
            f"{name} is {came}, expected {_kind(expected.shape, expected.dtype)}",
            batch=batch,
            suggestion="pad or convert examples so that all have one shape and type",
        )
    return array


def _array(leaf: Any) -> Array | None:
    """A leaf as a NumPy array, or None if it is not made of numbers."""
    try:
        array = np.asarray(leaf)
    except Exception:
        # Ragged lists, typed keys and objects with an `__array__` of their own end here: the
        # caller says what came instead.
        return None
    numeric = any(jax.dtypes.issubdtype(array.dtype, kind) for kind in (np.number, np.bool_))
    return array if numeric else None


def _dtype(array: Array) -> Any:
    return jax.dtypes.canonicalize_dtype(array.dtype)


def _beyond(column: Array, dtype: np.dtype[Any]) -> int | None:
    """The first row with an integer that `dtype` cannot hold: casting would wrap it silently."""
    if column.dtype.kind not in "iu" or column.dtype.itemsize <= dtype.itemsize or not column.size:
        return None
    bounds = np.iinfo(dtype)
    if column.min() >= bounds.min and column.max() <= bounds.max:
        return None
    outside = (column < bounds.min) | (column > bounds.max)
    return int(np.flatnonzero(outside.reshape(len(column), -1).any(axis=1))[0])


def _same(structure: Any, expected: Any) -> bool:
    return bool(structure == expected)


def _kind(shape: Sequence[int], dtype: Any) -> str:
    return f"{np.dtype(dtype).name}{list(shape)}"


def _what(leaf: Any) -> str:
    dtype = f" of dtype {leaf.dtype}" if isinstance(leaf, np.ndarray) else ""
    return f"a {type(leaf).__name__}{dtype}"


def _of_nothing(example: Any) -> str:
    return (
        "a Grain MapDataset gives None for what filter() removes: use to_iter_dataset()"
        if example is None
        else ""
    )
