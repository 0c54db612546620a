"""A rendezvous of one message: the link's thread hands over, gRPC's thread takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Message = TypeVar("Message")


class Handover(Generic[Message], Iterator[Message]):
    """An iterator for gRPC to read requests from. Holds one message; ends when closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._message: Message | None = None
        self._closed = False

    def put(self, message: Message, timeout_s: float) -> bool:
        """Hand over a message; False if the last one was not taken in time, or after `close`."""
        with self._changed:
            free = self._changed.wait_for(lambda: self._message is None or self._closed, timeout_s)
            if not free or self._closed:
                return False
            self._message = message
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """End the iteration; a message not taken yet is forgotten."""
        with self._changed:
            self._closed = True
            self._message = None
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        with self._changed:
            # Bounded by `close`, which the link calls at the end of every connection.
            self._changed.wait_for(lambda: self._message is not None or self._closed)
            if self._message is None:
                raise StopIteration
            message, self._message = self._message, None
            self._changed.notify_all()
            return message
