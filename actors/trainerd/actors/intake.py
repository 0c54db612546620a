"""Batches for step functions: pulled by the loop itself, one at a time, never one too many.

Nothing is made ahead: while the device works on a step, the loop pulls the batch of the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from trainerd.actors.errors import DataEnded, DataError, EngineError
from trainerd.actors.feed import Loaded
from trainerd.actors.traceback_text import user_traceback
from trainerd.actors.work import EpochEnded

Cut = Callable[[Any], tuple[tuple[Any, ...], Any]]
"""Checks a batch; returns a step's arguments, and its microbatches' weights (None: all alike)."""


@runtime_checkable
class RandomAccess(Protocol):
    """Batches by index: any sequence, a Grain `MapDataset`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Passes(Protocol):
    """Batches by their index over all passes."""

    def epoch_of(self, batch: int, /) -> int:
        """The pass that `batch` belongs to, as far as is known."""

    def get(self, batch: int, /) -> Any:
        """Return `batch`. Raises `DataEnded`, `EpochEnded`, and whatever the source does."""


def open_passes(data: Any, *, epochs: int | None, cursor: int) -> Passes:
    """Read `data` from batch `cursor` on, `epochs` times over; None: for ever.

    Raises `DataError` where it holds no batches, or cannot be read so often.
    """
    if isinstance(data, (str, bytes, Mapping)):
        raise DataError(
            f"data must be an iterable of batches, got one {type(data).__name__}",
            suggestion="wrap a single batch in a list",
        )
    if isinstance(data, RandomAccess):
        return _Indexed(data, epochs)
    if isinstance(data, Iterable):
        return _Streamed(data, epochs, cursor)
    raise DataError(
        f"data must be an iterable of batches, got {type(data).__name__}",
        suggestion="pass a list, a generator, a Grain dataset, or anything else to iterate over",
    )


class Intake:
    """Implements `work.Supply` over `Passes`. `waiting` surrounds what may block: the source."""

    def __init__(
        self,
        passes: Passes,
        *,
        cut: Cut,
        slots: int,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._passes, self._cut, self._waiting = passes, cut, waiting
        self._ones = np.ones(slots, np.float32)
        self.epoch_of = passes.epoch_of

    def ahead(self, batch: int) -> None:
        """Nothing is pulled before it is taken."""

    def take(self, batch: int, _timeout_s: float, /) -> Loaded:
        """Pull `batch` and check it, however long the source takes."""
        with self._waiting():
            pulled = self._pull(batch)
        try:
            arguments, weights = self._cut(pulled)
        except EngineError as error:
            error.message = f"batch {batch}: {error.message}"
            raise
        return Loaded(
            batch=batch,
            slots=arguments,
            placed_weights=None,
            weights=self._ones if weights is None else np.asarray(weights, np.float32),
        )

    def _pull(self, batch: int) -> Any:
        try:
            return self._passes.get(batch)
        except (DataEnded, DataError, EpochEnded):
            raise
        except Exception as error:
            raise DataError(
                f"the source raised {type(error).__name__} for batch {batch}: {error}",
                batch=batch,
                suggestion="mend the source, or pass continue_on_error=True to leave such "
                "batches out",
                detail=user_traceback(error),
            ) from error


class _Indexed:
    def __init__(self, source: RandomAccess, epochs: int | None) -> None:
        self._source, self._epochs = source, epochs
        self._length = len(source)
        if self._length < 1:
            raise DataError("the data has no batches", suggestion="pass at least one")

    def epoch_of(self, batch: int) -> int:
        epoch = batch // self._length
        return epoch if self._epochs is None else min(epoch, self._epochs - 1)

    def get(self, batch: int) -> Any:
        epoch, index = divmod(batch, self._length)
        if self._epochs is not None and epoch >= self._epochs:
            raise _ended(batch)
        return self._source[index]


@dataclass(frozen=True, slots=True)
class _Pulled:
    item: Any = None
    error: Exception | None = None


class _Streamed:
    """Batches in the order of one iterator after another; what raises counts as a batch."""

    def __init__(self, source: Iterable[Any], epochs: int | None, cursor: int) -> None:
        self._source, self._epochs = source, epochs
        self._iterator: Iterator[Any] | None = iter(source)
        if self._iterator is source and epochs != 1:
            raise DataError(
                f"{'endless epochs' if epochs is None else f'{epochs} epochs'} need data that can "
                f"be iterated over again, got a {type(source).__name__}",
                suggestion="pass a list or another collection, or set epochs to 1",
            )
        self._pass, self._next, self._began, self._over = 0, 0, 0, False
        self._ahead: _Pulled | None = None
        if cursor:
            self._go(cursor)

    def epoch_of(self, _batch: int) -> int:
        return self._pass

    def get(self, batch: int) -> Any:
        while self._next < batch:
            self._take()
        pulled = self._take()
        if pulled.error is not None:
            raise pulled.error
        return pulled.item

    def _take(self) -> _Pulled:
        pulled, self._ahead = self._ahead or self._pull(), None
        self._next += 1
        return pulled

    def _pull(self) -> _Pulled:
        if self._over:
            raise _ended(self._next)
        if self._iterator is None:
            self._iterator, self._began = iter(self._source), self._next
        try:
            return _Pulled(item=next(self._iterator))
        except StopIteration:
            self._turn()
            raise EpochEnded from None
        except Exception as error:
            return _Pulled(error=error)

    def _turn(self) -> None:
        """Go to the next pass. Raises `DataEnded` after the last one."""
        if self._next == self._began:
            raise DataError("the data has no batches", suggestion="pass at least one") from None
        self._iterator = None
        self._over = self._epochs is not None and self._pass + 1 >= self._epochs
        if self._over:
            raise _ended(self._next) from None
        self._pass += 1

    def _go(self, cursor: int) -> None:
        """Drop what an earlier run was fed, and see which pass the next batch is in."""
        while self._ahead is None:
            try:
                if self._next < cursor:
                    self._take()
                else:
                    self._ahead = self._pull()
            except EpochEnded:
                continue
            except DataEnded:
                if self._next == cursor:
                    return
                raise DataError(
                    f"the data ended after {self._next} batches, the checkpoint was made after "
                    f"{cursor}",
                    suggestion="pass the data the run was begun with, from its beginning",
                ) from None


def _ended(batch: int) -> DataEnded:
    return DataEnded(f"the data ended before batch {batch}", batch=batch)
