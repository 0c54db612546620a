"""A stream read by a thread of its own, so that its reader can also wait for other things."""

from __future__ import annotations

import queue
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from trainerd.clients.client import Stream
from trainerd.clients.errors import TrainerdError

if TYPE_CHECKING:
    from google.protobuf.message import Message

_LARGEST_BACKLOG = 64
_CLOSE_TIMEOUT_S = 5.0

Item = TypeVar("Item", bound="Message")


class StreamEnded(Exception):
    """The daemon ended the stream."""


class Feed(Generic[Item]):
    """Messages of a stream, taken with a timeout. At most 64 wait; then the daemon waits."""

    def __init__(self, stream: Stream[Item]) -> None:
        """Starts to read."""
        self._stream = stream
        self._items: queue.Queue[Item | TrainerdError | StreamEnded] = queue.Queue(_LARGEST_BACKLOG)
        self._thread = threading.Thread(target=self._read, name="feed", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the stream and its thread."""
        self._stream.cancel()
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._drain()
            self._thread.join(0.01)

    def take(self, timeout_s: float) -> Item | None:
        """The next message, or None if there is none in time.

        Raises `StreamEnded` once all are taken, or the `TrainerdError` that broke the stream.
        """
        try:
            item = self._items.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(item, TrainerdError | StreamEnded):
            raise item
        return item

    def _read(self) -> None:
        try:
            for message in self._stream:
                self._items.put(message)
        except TrainerdError as error:
            self._items.put(error)
        else:
            self._items.put(StreamEnded())

    def _drain(self) -> None:
        try:
            while True:
                self._items.get_nowait()
        except queue.Empty:
            return
