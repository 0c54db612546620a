"""Prefetch: one batch is made ready in the background while the device works on another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainerd.actors.errors import DataError
from trainerd.actors.state import PyTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A batch on the devices. `weights` is the host's copy, `(padded,)`.

    Where the source failed, `error` says so, slots and weights are zeros of the right shape.
    """

    batch: int
    slots: PyTree
    placed_weights: PyTree
    weights: np.ndarray[Any, Any]
    error: DataError | None = None


class Feed:
    """Makes batches, one at a time, in a thread of its own from `start` to `close`.

    Nothing is made that was not asked for with `ahead` or `take`. What `make` raises is raised
    by the `take` of that batch.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._wanted: int | None = None
        self._making: int | None = None
        self._made: tuple[int, Loaded | Exception] | None = None
        self._closed = False

    def start(self, make: Callable[[int], Loaded]) -> None:
        """Begin; `make` turns a batch's index into the batch."""
        thread = threading.Thread(
            target=self._work, args=(make,), name="trainerd-feed", daemon=True
        )
        self._thread = thread
        thread.start()

    def ahead(self, batch: int) -> None:
        """Begin to make `batch`; what was made and not taken is forgotten."""
        with self._changed:
            if batch != self._making and (self._made is None or self._made[0] != batch):
                self._wanted = batch
                self._changed.notify_all()

    def take(self, batch: int, timeout_s: float) -> Loaded | None:
        """Return `batch`, or None if it is not ready within the timeout; ask again then."""
        self.ahead(batch)
        with self._changed:
            if not self._changed.wait_for(lambda: self._holds(batch), timeout_s):
                return None
            assert self._made is not None
            made, self._made = self._made[1], None
        if isinstance(made, Exception):
            raise made
        return made

    def close(self, timeout_s: float) -> bool:
        """End the thread. False if the source is still busy after the timeout."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _holds(self, batch: int) -> bool:
        return self._made is not None and self._made[0] == batch

    def _work(self, make: Callable[[int], Loaded]) -> None:
        while True:
            with self._changed:
                # Ended by close(), which every owner calls.
                self._changed.wait_for(lambda: self._closed or self._wanted is not None)
                if self._closed:
                    return
                batch, self._wanted = self._wanted, None
                assert batch is not None
                self._making = batch
            made: Loaded | Exception
            try:
                made = make(batch)
            except Exception as error:
                made = error
            with self._changed:
                self._making = None
                self._made = (batch, made)
                self._changed.notify_all()
