"""Batches of examples: by index, a seeded permutation that is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any, Protocol

import numpy as np

from trainerd.actors.errors import DataError
from trainerd.actors.state import PyTree
from trainerd.actors.stream import StreamBatches
from trainerd.actors.template import WHOLE, Template
from trainerd.actors.traceback_text import user_traceback

_TEMPLATE_TRIES = 16
_LONGEST_SOURCE = 1 << 31
"""An epoch's order is held in memory: 8 bytes an example, twice that while it is made."""


class Source(Protocol):
    """Random access to examples: any sequence, a Grain `MapDataset`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class BatchSource(Protocol):
    """Where the loop's batches come from: `Batches` or `StreamBatches`.

    `template` is shapes and dtypes of an example; `batches_per_epoch` None: one pass, of unknown
    length.
    """

    @property
    def template(self) -> PyTree: ...

    @property
    def batches_per_epoch(self) -> int | None: ...

    def read(self, batch: int, part: slice = WHOLE) -> PyTree:
        """Return batch `batch`, leaves `(global_batch, …)`, or `part` of it, which may be empty.

        Raises `DataError`, `DataEnded`.
        """

    def position(self, batch: int, /) -> dict[str, Any] | None:
        """What a checkpoint must hold, as JSON values, so that `batch` is read next."""

    def resume(self, batch: int, position: Mapping[str, Any] | None, /) -> None:
        """Read `batch` next; `position` is what a checkpoint holds. Raises `DataError`."""

    def close(self) -> None:
        """Let go of what the source holds. Called from the thread that reads."""


def open_batches(source: Any, *, global_batch: int, seed: int) -> BatchSource:
    """Cut `source` into batches: at random if it can be indexed, else in its own order.

    Raises `DataError` where it can be neither indexed nor resumed. Reads one example.
    """
    if _indexable(source):
        return Batches(source, global_batch=global_batch, seed=seed)
    if isinstance(source, Iterable) and not isinstance(source, Sized):
        return StreamBatches(source, global_batch=global_batch)
    raise _neither(source)


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
                suggestion=_columns(source)
                or "make train.global_batch smaller or the source longer",
            )
        self.batches_per_epoch = self._length // global_batch
        self._template = self._find_template()
        self._order: tuple[int, np.ndarray[Any, Any]] = (-1, np.empty(0, np.int64))

    @property
    def template(self) -> PyTree:
        """Shapes and dtypes of an example."""
        return self._template.tree

    def indices(self, batch: int) -> np.ndarray[Any, Any]:
        """Return the source indices of batch `batch`, in order."""
        epoch, place = divmod(batch, self.batches_per_epoch)
        # One tuple, read once: another thread may ask for another epoch meanwhile.
        made_for, order = self._order
        if made_for != epoch:
            order = permutation(self._length, seed=self._seed, epoch=epoch)
            self._order = (epoch, order)
        start = place * self._global_batch
        return order[start : start + self._global_batch]

    def read(self, batch: int, part: slice = WHOLE) -> PyTree:
        """Return batch `batch`: leaves `(global_batch, …)`, or `part` of it; nothing else is read.

        Raises `DataError` naming the batch.
        """
        indices = [int(index) for index in self.indices(batch)[part]]
        rows = [
            self._template.row(self._example(index, batch), f"example {index}", batch)
            for index in indices
        ]
        return self._template.batch(rows, lambda row: f"example {indices[row]}", batch)

    def position(self, _batch: int, /) -> None:
        """Nothing: the number of a batch says where it lies."""

    def resume(self, _batch: int, position: Mapping[str, Any] | None, /) -> None:
        """Refuse a checkpoint of a run that read an iterator."""
        if position is not None:
            raise DataError(
                "the checkpoint was made by a run that read its data from an iterator; a "
                f"{type(self._source).__name__} is read in another order",
                suggestion="use the data the run was begun with, or begin a new run",
            )

    def close(self) -> None:
        """Nothing is held: the source is the user's."""

    def _example(self, index: int, batch: int) -> Any:
        try:
            return self._source[index]
        except Exception as error:
            short = isinstance(error, IndexError)
            raise DataError(
                f"the source raised {type(error).__name__} for example {index} of batch {batch}"
                f"{f', and says it has {self._length}' if short else ''}: {error}",
                batch=batch,
                suggestion="if the data ends earlier, make len() say so" if short else "",
                detail=user_traceback(error),
            ) from error

    def _find_template(self) -> Template:
        """An example's shape, from the first one that can be read."""
        failure: Exception | None = None
        for index in range(min(self._length, _TEMPLATE_TRIES)):
            try:
                example = self._source[index]
            except Exception as error:
                failure = failure or error
                continue
            return Template(example, f"example {index}")
        raise DataError(
            f"the source raised for each of its first examples; for example 0 "
            f"{type(failure).__name__}: {failure}",
            suggestion=_columns(self._source),
            detail=user_traceback(failure) if failure else "",
        )


def permutation(length: int, *, seed: int, epoch: int) -> np.ndarray[Any, Any]:
    """Return the order of an epoch: int64 indices, each of `range(length)` once.

    Sorts the raw 64-bit words of a Philox generator, whose stream NumPy keeps the same for ever;
    its `Generator.permutation` may change between releases.
    """
    words = np.random.Philox(np.random.SeedSequence((seed & 0xFFFF_FFFF_FFFF_FFFF, epoch)))
    return np.argsort(words.random_raw(length), kind="stable")


def _indexable(source: Any) -> bool:
    try:
        type(source).__len__  # noqa: B018
        type(source).__getitem__  # noqa: B018
    except AttributeError:
        return False
    return True


def _neither(source: Any) -> DataError:
    return DataError(
        f"data must have a length and give an example for an index, or be an iterable that can be "
        f"resumed, got {type(source).__name__}",
        suggestion="pass a sequence, a Grain MapDataset or a Grain IterDataset",
    )


def _length(source: Any) -> int:
    if not _indexable(source):
        raise _neither(source)
    try:
        length = len(source)
    except Exception as error:
        raise DataError(
            f"len(data) raised {type(error).__name__}: {error}",
            suggestion="make it return how many examples there are",
            detail=user_traceback(error),
        ) from error
    if length > _LONGEST_SOURCE:
        raise DataError(
            f"data is {length} examples long, at most {_LONGEST_SOURCE} are supported",
            suggestion="leave out repeat(): epochs are made by the trainer",
        )
    return length


def _columns(source: Any) -> str:
    """What to do with columns that were given for examples."""
    match source:
        case dict():
            return (
                "for a dict of columns pass [dict(zip(data, row)) for row in zip(*data.values())]"
            )
        case tuple() | list() if all(
            isinstance(column, np.ndarray) and column.ndim and len(column) > len(source)
            for column in source
        ):
            return "for a tuple of columns pass list(zip(*data))"
        case _:
            return ""
