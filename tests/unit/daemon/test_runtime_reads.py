"""Readers that leave in the middle: the journal is one caller's at a time, whatever they do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainerd.daemon.journal import Journal, Stored
from trainerd.daemon.supervision.events import PauseRequested
from trainerd.daemon.whole_calls import to_its_end
from unit.daemon.house import play
from unit.daemon.parts import parts


class SlowJournal(Journal):
    """A journal whose reads take as long as a test wants; it knows who uses it at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reading, self.go_on = threading.Event(), threading.Event()
        self.slow = False
        self.users = self.most_users = 0

    def read(self, **options: Any) -> Iterator[Stored]:
        if not self.slow:
            return super().read(**options)
        self._enter()
        self.reading.set()
        assert self.go_on.wait(10)
        found = list(super().read(**options))
        self.users -= 1
        return iter(found)

    def append(self, entries: Any) -> list[int]:
        self._enter()
        sequences = super().append(entries)
        self.users -= 1
        return sequences

    def _enter(self) -> None:
        self.users += 1
        self.most_users = max(self.most_users, self.users)


@pytest.mark.parametrize("times", [1, 2])
def test_who_leaves_while_the_journal_is_read_lets_nobody_in_before_that_is_done(
    tmp_path: Path, times: int
) -> None:
    async def scene() -> None:
        journal = SlowJournal(tmp_path / "journal.sqlite")
        async with parts(tmp_path, journal=journal) as at:
            run = await at.running_run()
            journal.slow = True
            reader = asyncio.create_task(at.runtime.history(run, 0, 10))
            await asyncio.to_thread(journal.reading.wait, 10)
            writer = asyncio.create_task(at.runtime.post(PauseRequested(run=run)))
            for _ in range(times):
                reader.cancel()
                # Whatever was let in by that has had its turn in a thread by then.
                for _ in range(20):
                    await asyncio.to_thread(lambda: None)
            assert not writer.done()
            journal.go_on.set()
            assert (await writer).sequence
            with pytest.raises(asyncio.CancelledError):
                await reader
            assert journal.most_users == 1

    play(scene)


def test_a_call_in_a_thread_gives_back_what_it_makes_or_raises() -> None:
    def fails() -> None:
        raise ValueError("no")

    async def scene() -> None:
        assert await to_its_end(lambda: 3) == 3
        with pytest.raises(ValueError, match="no"):
            await to_its_end(fails)

    play(scene)


def test_what_a_call_raises_after_its_caller_has_left_is_nobodys_error() -> None:
    async def scene() -> None:
        begun, go_on = threading.Event(), threading.Event()

        def fails() -> None:
            begun.set()
            assert go_on.wait(10)
            raise ValueError("no")

        caller = asyncio.create_task(to_its_end(fails))
        await asyncio.to_thread(begun.wait, 10)
        caller.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await caller

    play(scene)
