"""Batches from an iterator, such as a Grain `IterDataset`'s: in its own order, one pass."""

from __future__ import annotations

import collections
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from trainerd.actors.errors import DataEnded, DataError
from trainerd.actors.state import PyTree
from trainerd.actors.template import WHOLE, Array, Template
from trainerd.actors.traceback_text import user_traceback

_TEMPLATE_TRIES = 16
_POSITIONS = 8
"""Batch boundaries whose position is kept: more than there are steps in flight."""


@runtime_checkable
class ResumableIterator(Protocol):
    """An iterator that can say where it stands, in JSON values, and go there."""

    def __next__(self) -> Any: ...

    def get_state(self) -> Any: ...

    def set_state(self, state: Any, /) -> None: ...


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> None: ...


class StreamBatches:
    """Batch `b` is the pulls `b * global_batch` to `(b + 1) * global_batch` of an iterator.

    A pull that raises counts as a pull, so that batches lie where they lie whether or not an error
    comes again at a replay. After one, the iterator's own count is not believed any more (Grain's
    leaves such pulls out): positions are then the last state before the error and the pulls since.
    Read in order, from one thread at a time; `position` may be asked from any.
    """

    batches_per_epoch: int | None = None

    def __init__(self, source: Any, *, global_batch: int) -> None:
        self._iterator = _resumable(source)
        self._global_batch = global_batch
        self._lock = threading.Lock()
        self._positions: collections.OrderedDict[int, tuple[str, int]] = collections.OrderedDict()
        self._next = 0
        # Where the iterator stands is `_pulls` after `_base`; 0 as long as its state counts them.
        self._base, self._pulls, self._counts = self._state(), 0, True
        self._template = self._find_template()
        try:
            self._go(self._base)
        except Exception as error:
            raise DataError(
                f"set_state() of the data's iterator raised {type(error).__name__}: {error}",
                suggestion="make it accept what get_state() returned",
                detail=user_traceback(error),
            ) from error
        self._remember()

    @property
    def template(self) -> PyTree:
        """Shapes and dtypes of an example."""
        return self._template.tree

    def read(self, batch: int, part: slice = WHOLE) -> PyTree:
        """Return batch `batch`: leaves `(global_batch, …)`; batches before it are dropped.

        Of a `part` all others are pulled too: an iterator goes from one to the next.
        The last few can be read again. Raises `DataError` naming the batch, and `DataEnded` where
        the iterator ends before the batch is whole.
        """
        if batch < self._next:
            self.resume(batch, self.position(batch))
        while self._next < batch:
            self._batch(keep=False)
        try:
            return jax.tree.map(lambda leaf: leaf[part], self._batch(keep=True))
        finally:
            # The boundaries between batches that are dropped are no cursor's: not remembered.
            self._remember()

    def position(self, batch: int) -> dict[str, Any] | None:
        """What to hand to `resume` to read `batch` next, as JSON values.

        Known for the last few boundaries between batches that were read. Raises `ValueError` for
        another.
        """
        with self._lock:
            if batch not in self._positions:
                raise ValueError(
                    f"the position of batch {batch} is not known, only {list(self._positions)}"
                )
            state, pulls = self._positions[batch]
        return {"state": json.loads(state), "pulls": pulls}

    def resume(self, batch: int, position: Mapping[str, Any] | None) -> None:
        """Go to where `batch` is read next. Raises `DataError` if the iterator refuses."""
        if position is None:
            raise DataError(
                "the checkpoint was made by a run with random access to its data, and holds no "
                f"state for {type(self._iterator).__name__}",
                suggestion="use the data the run was begun with, or begin a new run",
            )
        try:
            state, pulls = json.dumps(position["state"]), int(position["pulls"])
            self._go(state)
        except Exception as error:
            raise DataError(
                f"the data's iterator cannot go back to where the checkpoint was made: "
                f"{type(error).__name__}: {error}",
                suggestion="use the data the run was begun with, or begin a new run",
                detail=user_traceback(error),
            ) from error
        raised = sum(not self._pull(batch) for _ in range(pulls))
        self._next, self._counts = batch, not raised
        self._base, self._pulls = (state, pulls) if raised else (self._state(), 0)
        self._remember()

    def close(self) -> None:
        """Let go of the iterator's threads and files, if it has any."""
        if isinstance(self._iterator, _Closable):
            self._iterator.close()

    def _batch(self, *, keep: bool) -> PyTree:
        """Pull the next batch whole, whatever is wrong with it."""
        batch, failure = self._next, None
        rows: list[list[Array]] = []
        for place in range(self._global_batch):
            try:
                example = next(self._iterator)
                if keep and failure is None:
                    rows.append(self._template.row(example, f"example {place}", batch))
            except StopIteration:
                if failure is not None:
                    break
                raise self._ended(batch) from None
            except DataError as error:
                failure = failure or error
            except Exception as error:
                self._counts = False
                failure = failure or _raised(error, place, batch)
        self._pulls += self._global_batch
        if self._counts:
            self._base, self._pulls = self._state(), 0
        self._next += 1
        if not keep:
            return None
        if failure is not None:
            raise failure
        return self._template.batch(rows, lambda row: f"example {row}", batch)

    def _pull(self, batch: int) -> bool:
        """Pull and drop one example; False if the iterator raised."""
        try:
            next(self._iterator)
        except StopIteration:
            raise self._ended(batch) from None
        except Exception:
            # Its batch is in the ledger already, with the error.
            return False
        return True

    def _ended(self, batch: int) -> DataEnded:
        return DataEnded(
            f"the data ended before batch {batch} was whole",
            batch=batch,
            suggestion="repeat() the data, or make train.steps smaller",
        )

    def _remember(self) -> None:
        with self._lock:
            self._positions[self._next] = (self._base, self._pulls)
            self._positions.move_to_end(self._next)
            while len(self._positions) > _POSITIONS:
                self._positions.popitem(last=False)

    def _state(self) -> str:
        """The iterator's state as JSON: a copy that later pulls do not change."""
        try:
            return json.dumps(self._iterator.get_state())
        except Exception as error:
            raise DataError(
                f"get_state() of the data's iterator must return JSON values: "
                f"{type(error).__name__}: {error}",
                suggestion="return numbers, strings, lists and dicts from get_state()",
                detail=user_traceback(error),
            ) from error

    def _go(self, state: str) -> None:
        self._iterator.set_state(json.loads(state))

    def _find_template(self) -> Template:
        failure: Exception | None = None
        for _ in range(_TEMPLATE_TRIES):
            try:
                example = next(self._iterator)
            except StopIteration:
                break
            except Exception as error:
                failure = failure or error
                continue
            return Template(example, "the first example")
        if failure is None:
            raise DataError(
                "the data has no examples", suggestion="pass an iterator that yields some"
            )
        raise DataError(
            "the data's iterator raised for each of its first examples; first "
            f"{type(failure).__name__}: {failure}",
            detail=user_traceback(failure),
        )


def _resumable(source: Any) -> ResumableIterator:
    try:
        iterator: Iterator[Any] = iter(source)
    except Exception as error:
        raise DataError(
            f"iter(data) raised {type(error).__name__}: {error}", detail=user_traceback(error)
        ) from error
    if not isinstance(iterator, ResumableIterator):
        raise DataError(
            f"data is a {type(source).__name__}, whose iterator has no get_state() and "
            "set_state(): a run could not be resumed exactly",
            suggestion="pass a sequence, a Grain MapDataset or a Grain IterDataset",
        )
    return iterator


def _raised(error: Exception, place: int, batch: int) -> DataError:
    failure = DataError(
        f"the source raised {type(error).__name__} for example {place} of batch {batch}: {error}",
        batch=batch,
        detail=user_traceback(error),
    )
    failure.__cause__ = error
    return failure
