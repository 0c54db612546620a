"""The runtime around the supervisor. Its duties, in this order, for as many events as wait:

1. take events from the bounded mailbox;
2. step the supervisor (pure: nothing has happened yet);
3. journal the events and the records they caused, in one transaction on disk;
4. make the new state visible, tell the observers;
5. carry out the commands, in order; their results come back as events.

If the journal cannot be written, nothing of the batch has happened: the senders are told so, and
those that must be heard (trainers, launcher, timers) try again.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from trainerd.daemon import codec
from trainerd.daemon.clock import Clock
from trainerd.daemon.journal import Entry, Journal, Stored
from trainerd.daemon.supervision.commands import Command, Record
from trainerd.daemon.supervision.events import AnyEvent, Event, EventIgnored
from trainerd.daemon.supervision.state import IllegalTransitionError, State
from trainerd.daemon.supervision.supervisor import step
from trainerd.v1.mailbox import MAILBOX_LIMIT, Inbox, MailboxOverflow

log = structlog.get_logger()

BATCH = 256
"""Most events journalled in one transaction."""


class JournalFullError(Exception):
    """The event could not be journalled; nothing has happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an event. `ignored` says why nothing was done, or is None."""

    sequence: int
    ignored: str | None


@dataclass(frozen=True, slots=True)
class _Letter:
    event: Event
    sender: tuple[int, int]
    answer: asyncio.Future[Outcome]


@dataclass(slots=True)
class _Batch:
    state: State
    entries: list[Entry] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    answers: list[tuple[_Letter, int, str | None]] = field(default_factory=list)


class Executor(Protocol):
    """Carries out commands; must not block, and answers by posting events."""

    def execute(self, command: Command) -> None:
        """Begin to carry out one command."""


Observer = Callable[[Stored, State], None]


class Runtime:
    """Owns the supervisor's state and its journal."""

    def __init__(
        self, journal: Journal, clock: Clock, *, on_commit: Callable[[float], None] = lambda _: None
    ) -> None:
        self.state = State()
        self.inbox = Inbox()
        self._journal = journal
        self._clock = clock
        self._executor: Executor | None = None
        self._observers: list[Observer] = []
        self._mailbox: asyncio.Queue[_Letter] = asyncio.Queue(MAILBOX_LIMIT)
        self._reading = asyncio.Lock()
        self._on_commit = on_commit
        self._closed = False

    def observe(self, observer: Observer) -> None:
        """Call this for every record, on replay and when it is journalled."""
        self._observers.append(observer)

    def replay(self) -> Stored | None:
        """Fold the journal into the state; return its last record, or None if it is empty."""
        stored = None
        for stored in self._journal.read():
            if not stored.derived:
                event = codec.decode(stored.message)
                self.state, _ = step(self.state, event, now=stored.now)  # type: ignore[arg-type]
            if stored.sender_sequence:
                run = stored.message.run
                self.inbox.accept(run, stored.sender_incarnation, stored.sender_sequence)
            self._tell(stored)
        return stored

    async def post(self, event: Event, *, sender: tuple[int, int] = (0, 0)) -> Outcome:
        """Have an event journalled and acted on; return when it is on disk.

        `sender`: (incarnation, sequence) of a trainer's report. Raise `MailboxOverflow` when too
        many events wait, `JournalFullError` when the journal cannot be written.
        """
        if self._closed:
            raise JournalFullError("the daemon is ending")
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        try:
            self._mailbox.put_nowait(_Letter(event, sender, answer))
        except asyncio.QueueFull:
            raise MailboxOverflow(f"{MAILBOX_LIMIT} events wait, limit {MAILBOX_LIMIT}") from None
        return await answer

    async def history(self, run: str, after: int, limit: int) -> list[Stored]:
        """Journal records of a run (or of all) behind `after`, at most `limit`."""
        async with self._reading:
            return await asyncio.to_thread(
                lambda: list(self._journal.read(run=run, after=after, limit=limit))
            )

    async def run(self, executor: Executor) -> None:
        """Serve the mailbox until cancelled."""
        self._executor = executor
        while True:
            letters = [await self._mailbox.get()]
            while len(letters) < BATCH and not self._mailbox.empty():
                letters.append(self._mailbox.get_nowait())
            await self._take(letters)

    async def close(self) -> None:
        """Journal what waits, then refuse further events."""
        self._closed = True
        while not self._mailbox.empty():
            await asyncio.sleep(0)
        async with self._reading:
            pass  # The batch in hand, if any, is on disk now.

    async def _take(self, letters: Sequence[_Letter]) -> None:
        batch = self._step(letters)
        if not batch.entries:
            return
        try:
            async with self._reading:
                began = time.monotonic()
                sequences = await asyncio.to_thread(self._journal.append, batch.entries)
                self._on_commit(time.monotonic() - began)
        except (sqlite3.Error, OSError) as error:
            log.error("journal_write_failed", error=str(error), events=len(letters))
            problem = JournalFullError(f"the journal cannot be written: {error}")
            for letter, _, _ in batch.answers:
                if not letter.answer.done():
                    letter.answer.set_exception(problem)
            return
        self.state = batch.state
        for sequence, entry in zip(sequences, batch.entries, strict=True):
            self._tell(_stored(sequence, entry))
        for letter, index, ignored in batch.answers:
            if not letter.answer.done():
                outcome = Outcome(sequence=sequences[index], ignored=ignored)
                letter.answer.set_result(outcome)
        if self._executor is None:
            raise RuntimeError("the runtime was not started with an executor")
        for command in batch.commands:
            self._executor.execute(command)

    def _step(self, letters: Sequence[_Letter]) -> _Batch:
        batch = _Batch(self.state)
        for letter in letters:
            now, wall = self._clock.now(), self._clock.wall()
            try:
                batch.state, commands = step(batch.state, letter.event, now=now)
            except IllegalTransitionError as error:
                # A defect of ours, but one run's: the daemon and every other run live on.
                log.exception("illegal_transition", event_kind=codec.kind_of(letter.event))
                letter.answer.set_exception(error)
                continue
            index = len(batch.entries)
            batch.entries.append(_entry(letter.event, now, wall, letter.sender))
            ignored = None
            for command in commands:
                if isinstance(command, Record):
                    batch.entries.append(_entry(command.event, now, wall, (0, 0), derived=True))
                    if isinstance(command.event, EventIgnored):
                        ignored = command.event.reason
                else:
                    batch.commands.append(command)
            batch.answers.append((letter, index, ignored))
        return batch

    def _tell(self, stored: Stored) -> None:
        for observer in self._observers:
            observer(stored, self.state)


def _entry(
    event: AnyEvent, now: float, wall: float, sender: tuple[int, int], *, derived: bool = False
) -> Entry:
    return Entry(
        message=codec.encode(event),
        kind=codec.kind_of(event),
        derived=derived,
        now=now,
        wall=wall,
        sender_incarnation=sender[0],
        sender_sequence=sender[1],
    )


def _stored(sequence: int, entry: Entry) -> Stored:
    entry.message.sequence = sequence
    entry.message.time.FromNanoseconds(int(entry.wall * 1e9))
    return Stored(
        sequence=sequence,
        message=entry.message,
        kind=entry.kind,
        derived=entry.derived,
        now=entry.now,
        wall=entry.wall,
        sender_incarnation=entry.sender_incarnation,
        sender_sequence=entry.sender_sequence,
    )
