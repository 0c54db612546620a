"""Keeps the journal small: a snapshot of the state, and what it makes superfluous removed.

It goes in slices of a few milliseconds, each a transaction; records are written in between. Killed
in between, the journal holds a little more than it must, and the next compaction removes that.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator

import structlog

from trainerd.daemon import state_codec
from trainerd.daemon.journal import Journal, Snapshot
from trainerd.daemon.supervision.state import State
from trainerd.v1.protocol import SOFTWARE

log = structlog.get_logger()

EVERY = 10_000
"""Records from one compaction to the next."""
AT_START = 1_000
"""Records behind the snapshot that make one worth while when a daemon starts."""
RECORDS = 500
PAGES = 256
"""What one slice removes, and gives back."""


def compaction(journal: Journal, state: State, sequence: int) -> Iterator[None]:
    """Compact in slices: each `next` does one. `state` is that behind record `sequence`.

    That record stays, also if it is superfluous: a journal's newest record tells the time.
    """
    body = state_codec.encode(state)
    yield
    snapshot = Snapshot(sequence=sequence, release=SOFTWARE, shape=state_codec.shape(), body=body)
    journal.keep_snapshot(snapshot)
    yield
    while journal.remove(sequence, state.runs.keys(), RECORDS):
        yield
    while journal.shrink(PAGES):
        yield


class Compactor:
    """Compacts a journal now and then. `access`: one call of the journal at a time."""

    def __init__(
        self,
        journal: Journal,
        access: asyncio.Lock,
        *,
        every: int = EVERY,
        at_start: int = AT_START,
    ) -> None:
        self._journal = journal
        self._access = access
        self._every = every
        self._at_start = at_start
        self._due = every
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self, sequence: int, stepped: int) -> None:
        """A replay ended at record `sequence`, `stepped` records behind the snapshot."""
        worth_while = stepped >= self._at_start
        self._due = sequence if worth_while else sequence - stepped + self._every

    def consider(self, state: State, sequence: int) -> None:
        """Begin to compact, if it is time. `state` is that behind record `sequence`."""
        running = self._task is not None and not self._task.done()
        if sequence >= self._due and not running and not self._closed:
            self._due = sequence + self._every
            self._task = asyncio.create_task(self._run(state, sequence), name="compaction")

    async def close(self) -> None:
        """Leave the rest to the next compaction; return when the slice at hand is done."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self, state: State, sequence: int) -> None:
        slices = compaction(self._journal, state, sequence)
        more = True
        try:
            while more and not self._closed:
                async with self._access:
                    more = await asyncio.to_thread(_next, slices)
        except (sqlite3.Error, OSError) as error:
            # The journal is as good as before, only larger; the next one tries again.
            log.warning("journal_not_compacted", error=str(error))
        else:
            log.debug("journal_compacted", sequence=sequence, whole=not more)


def _next(slices: Iterator[None]) -> bool:
    return next(slices, _END) is not _END


_END = object()
