"""Batches by index: a seeded permutation of a random-access source, the same on every machine."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import numpy as np

from trainerd.actors.errors import DataError
from trainerd.actors.state import PyTree
from trainerd.actors.traceback_text import user_traceback

_TEMPLATE_TRIES = 16
_LONGEST_SOURCE = 1 << 40


class Source(Protocol):
    """Random access to examples: any sequence, a Grain `MapDataset`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Batches:
    """Cuts a source into batches of `global_batch` examples in a seeded order.

    Epoch `e` is a permutation of the source that depends on the seed, `e` and the length alone;
    batch `b` is slice `b % batches_per_epoch` of epoch `b // batches_per_epoch`. The examples left
    over at the end of an epoch are dropped; another epoch drops others.
    """

    def __init__(self, source: Any, *, global_batch: int, seed: int) -> None:
        self._source: Source = source
        self._global_batch = global_batch
        self._seed = seed
        self._length = _length(source)
        if self._length < global_batch:
            raise DataError(
                f"the source has {self._length} examples, a batch needs {global_batch}",
                suggestion="make train.global_batch smaller or the source longer",
            )
        self.batches_per_epoch = self._length // global_batch
        self.template = self._find_template()
        self._names = [
            jax.tree_util.keystr(path) or "example"
            for path, _ in jax.tree_util.tree_leaves_with_path(self.template)
        ]
        self._structure = jax.tree.structure(self.template)
        self._order: tuple[int, np.ndarray[Any, Any]] = (-1, np.empty(0, np.int64))

    def indices(self, batch: int) -> np.ndarray[Any, Any]:
        """Return the source indices of batch `batch`, in order."""
        epoch, place = divmod(batch, self.batches_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, permutation(self._length, seed=self._seed, epoch=epoch))
        start = place * self._global_batch
        return self._order[1][start : start + self._global_batch]

    def read(self, batch: int) -> PyTree:
        """Return batch `batch`: leaves `(global_batch, …)`. Raises `DataError` naming the batch."""
        examples = [self._example(int(index), batch) for index in self.indices(batch)]
        columns = [np.stack(column) for column in zip(*examples, strict=True)]
        return jax.tree.unflatten(self._structure, columns)

    def _example(self, index: int, batch: int) -> list[np.ndarray[Any, Any]]:
        try:
            example = self._source[index]
        except Exception as error:
            raise DataError(
                f"the source raised {type(error).__name__} for example {index} of batch {batch}: "
                f"{error}",
                batch=batch,
                detail=user_traceback(error),
            ) from error
        leaves, structure = jax.tree.flatten(example)
        if not _same(structure, self._structure):
            raise DataError(
                f"example {index} of batch {batch} has the structure {structure}, "
                f"expected {self._structure}",
                batch=batch,
                suggestion="give every example the same keys",
            )
        return [
            self._leaf(leaf, expected, name, index, batch)
            for leaf, expected, name in zip(
                leaves, jax.tree.leaves(self.template), self._names, strict=True
            )
        ]

    def _leaf(
        self, leaf: Any, expected: jax.ShapeDtypeStruct, name: str, index: int, batch: int
    ) -> np.ndarray[Any, Any]:
        array = _array(leaf)
        if array is None or array.shape != expected.shape or array.dtype != expected.dtype:
            came = f"a {type(leaf).__name__}" if array is None else _kind(array)
            raise DataError(
                f"leaf {name} of example {index} in batch {batch} is {came}, "
                f"expected {_kind(expected)}",
                batch=batch,
                suggestion="pad or convert examples so that all have one shape and type",
            )
        return array

    def _find_template(self) -> PyTree:
        """Shape and dtype of an example, from the first one that can be read."""
        failure: Exception | None = None
        for index in range(min(self._length, _TEMPLATE_TRIES)):
            try:
                example = self._source[index]
            except Exception as error:
                failure = failure or error
                continue
            return _template(example)
        raise DataError(
            f"the source raised for each of its first examples; for example 0 "
            f"{type(failure).__name__}: {failure}",
            detail=user_traceback(failure) if failure else "",
        )


def permutation(length: int, *, seed: int, epoch: int) -> np.ndarray[Any, Any]:
    """Return the order of an epoch: int64 indices, each of `range(length)` once.

    Sorts the raw 64-bit words of a Philox generator, whose stream NumPy keeps the same for ever;
    its `Generator.permutation` may change between releases.
    """
    words = np.random.Philox(np.random.SeedSequence((seed & 0xFFFF_FFFF_FFFF_FFFF, epoch)))
    return np.argsort(words.random_raw(length), kind="stable")


def _length(source: Any) -> int:
    try:
        length = len(source)
        source.__getitem__  # noqa: B018
    except (TypeError, AttributeError) as error:
        raise DataError(
            f"data must have a length and give an example for an index, got "
            f"{type(source).__name__}",
            suggestion="pass a sequence or a Grain MapDataset; an iterator has no random access "
            "and could not be resumed exactly",
        ) from error
    except Exception as error:
        raise DataError(
            f"len(data) raised {type(error).__name__}: {error}", detail=user_traceback(error)
        ) from error
    if length > _LONGEST_SOURCE:
        raise DataError(
            f"data is {length} examples long, at most {_LONGEST_SOURCE} are supported",
            suggestion="leave out repeat(): epochs are made by the trainer",
        )
    return length


def _template(example: Any) -> PyTree:
    paths = jax.tree_util.tree_leaves_with_path(example)
    if not paths:
        raise DataError(f"an example must hold at least one array, got {example!r:.100}")
    shapes = []
    for path, leaf in paths:
        array = _array(leaf)
        if array is None:
            raise DataError(
                f"leaf {jax.tree_util.keystr(path) or 'example'} of example 0 is a "
                f"{type(leaf).__name__}, expected an array of numbers",
                suggestion="convert it to integers or floats in the source",
            )
        shapes.append(jax.ShapeDtypeStruct(array.shape, array.dtype))
    return jax.tree.unflatten(jax.tree.structure(example), shapes)


def _array(leaf: Any) -> np.ndarray[Any, Any] | None:
    """A leaf as the array JAX would make of it, or None if it is not made of numbers."""
    try:
        array = np.asarray(leaf)
    except ValueError:
        return None
    if not any(jax.dtypes.issubdtype(array.dtype, kind) for kind in (np.number, np.bool_)):
        return None
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def _same(structure: Any, expected: Any) -> bool:
    return bool(structure == expected)


def _kind(array: Any) -> str:
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"
