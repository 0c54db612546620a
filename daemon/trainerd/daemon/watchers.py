"""Who watches a run: bounded queues that never slow the daemon, with a marker for gaps."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterator
from contextlib import contextmanager

from trainerd.daemon.journal import Stored
from trainerd.daemon.supervision.state import State
from trainerd.v1 import event_pb2

QUEUE_LIMIT = 256
"""Events a watcher may lag behind before it is told of a gap."""


class Watcher:
    """One watcher's queue. `run` empty: all runs."""

    def __init__(self, run: str) -> None:
        self.run = run
        self._events: collections.deque[event_pb2.Event] = collections.deque()
        self._dropped = 0
        self._changed = asyncio.Event()

    def put(self, event: event_pb2.Event) -> None:
        """Queue an event; a full queue drops its oldest and counts it."""
        if len(self._events) >= QUEUE_LIMIT:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        self._changed.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until there is an event; False after the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> tuple[list[event_pb2.Event], int]:
        """The events since the last call, oldest first, and how many were dropped."""
        events, dropped = list(self._events), self._dropped
        self._events.clear()
        self._dropped = 0
        self._changed.clear()
        return events, dropped


class Watchers:
    """All watchers of a daemon."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    def record(self, stored: Stored, state: State) -> None:  # noqa: ARG002 - an observer
        """Tell of a journal record."""
        self.tell(stored.message)

    def tell(self, event: event_pb2.Event) -> None:
        """Tell everyone whom this event concerns."""
        for watcher in self._watchers:
            if watcher.run in ("", event.run):
                watcher.put(event)

    @contextmanager
    def watch(self, run: str = "") -> Iterator[Watcher]:
        """A watcher for the life of the block."""
        watcher = Watcher(run)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
