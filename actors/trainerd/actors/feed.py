"""Prefetch: one batch is made ready in the background while the device works on another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainerd.actors.errors import DataError
from trainerd.actors.state import PyTree

_log = logging.getLogger(__name__)


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
    by the `take` of that batch. One batch is ready or being made at any time, and at most one more
    is asked for: the last that was.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._wanted: int | None = None
        self._making: int | None = None
        self._made: tuple[int, Loaded | BaseException] | None = None
        self._closed = False
        self._before: Callable[[], None] | None = None

    def start(
        self, make: Callable[[int], Loaded], ended: Callable[[], None] = lambda: None
    ) -> None:
        """Begin; `make` turns a batch's index into the batch. `ended` is called at the end.

        Both are called in the feed's own thread.
        """
        thread = threading.Thread(
            target=self._run, args=(make, ended), name="trainerd-feed", daemon=True
        )
        self._thread = thread
        thread.start()

    def ahead(self, batch: int) -> None:
        """Begin to make `batch`; what was made and not taken is forgotten."""
        with self._changed:
            self._want(batch)

    def begin_anew(self, before: Callable[[], None]) -> None:
        """Forget what was made and asked for. `before` is called, in the feed's own thread, before
        anything else is made; what it raises is raised by the next `take`."""
        with self._changed:
            self._wanted = self._making = self._made = None
            self._before = before

    def take(self, batch: int, timeout_s: float) -> Loaded | None:
        """Return `batch`, or None if it is not ready within the timeout; ask again then."""
        with self._changed:
            self._want(batch)
            if not self._changed.wait_for(lambda: self._holds(batch), timeout_s):
                return None
            assert self._made is not None
            made, self._made = self._made[1], None
        if isinstance(made, BaseException):
            raise made
        return made

    def close(self, timeout_s: float) -> bool:
        """End the thread. False if the source is still busy after the timeout.

        The thread of such a source is left to end by itself; nobody waits for it at exit.
        """
        with self._changed:
            self._closed = True
            self._made = None
            self._changed.notify_all()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _log.warning(
                "the data source has not returned within %g s; its thread is left behind", timeout_s
            )
            return False
        return True

    def _want(self, batch: int) -> None:
        if batch == self._making or self._holds(batch):
            # Whatever was asked for meanwhile would take its place.
            self._wanted = None
        elif batch != self._wanted:
            self._wanted = batch
            self._changed.notify_all()

    def _holds(self, batch: int) -> bool:
        return self._made is not None and self._made[0] == batch

    def _run(self, make: Callable[[int], Loaded], ended: Callable[[], None]) -> None:
        try:
            self._work(make)
        finally:
            try:
                ended()
            except Exception as error:
                _log.warning("the data source could not be closed: %s", error)

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
                before, self._before = self._before, None
            made: Loaded | BaseException
            try:
                if before is not None:
                    before()
                made = make(batch)
            except BaseException as error:
                # A SystemExit too: the loop's thread raises it again, this one must not die of it.
                made = error
            with self._changed:
                self._making = None
                # What was begun before the feed began anew is of no use to anybody.
                if not self._closed and self._before is None:
                    self._made = (batch, made)
                self._changed.notify_all()
            del made
