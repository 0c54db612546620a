"""What waits to be sent over a link: all of it goes in one message, as soon as the link is free."""

from __future__ import annotations

import asyncio
import collections
from typing import Generic, TypeVar

from trainerd.v1.mailbox import MAILBOX_LIMIT

Item = TypeVar("Item")

MOST = 256
"""Items of one message."""


class Waiting(Generic[Item]):
    """A bounded queue that is emptied at once. Full: it ends, and the link with it."""

    def __init__(self, limit: int = 4 * MAILBOX_LIMIT) -> None:
        self._limit = limit
        self._items: collections.deque[Item] = collections.deque()
        self._changed = asyncio.Event()
        self._ended = False
        self.problem = ""

    def put(self, item: Item) -> None:
        """Send this when the link is free."""
        if self._ended:
            return
        if len(self._items) >= self._limit:
            self.end(f"{self._limit} messages wait, limit {self._limit}")
            return
        self._items.append(item)
        self._changed.set()

    def end(self, problem: str) -> None:
        """Send nothing more, whatever waits."""
        if not self._ended:
            self._ended, self.problem = True, problem
            self._items.clear()
            self._changed.set()

    async def take(self) -> list[Item]:
        """What waits, in order, at least one; none: it has ended."""
        while not self._items and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return [self._items.popleft() for _ in range(min(len(self._items), MOST))]
