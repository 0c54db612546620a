"""The runtime around the supervisor. Its duties, in this order, for as many events as wait:

1. take events from the bounded mailbox;
2. step the supervisor (pure: nothing has happened yet);
3. journal the events and the records they caused, in one transaction on disk;
4. make the new state visible, tell the observers;
5. carry out the commands, in order; their results come back as events.

If the journal cannot be written, nothing of the batch has happened: the senders are told so, and
those that must be heard (trainers, launcher, timers) try again; when it can be written again, that
is the first record. A report that is journalled already
is a duplicate: its sender is told so, nothing else happens.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from trainerd.daemon import codec
from trainerd.daemon.clock import Clock
from trainerd.daemon.compaction import AT_START, EVERY, Compactor
from trainerd.daemon.folding import fold, ignored_because, supervised
from trainerd.daemon.journal import Entry, Journal, Stored
from trainerd.daemon.supervision.commands import Command, Record
from trainerd.daemon.supervision.events import AnyEvent, Event, JournalRecovered
from trainerd.daemon.supervision.state import State
from trainerd.daemon.whole_calls import to_its_end
from trainerd.v1.mailbox import MAILBOX_LIMIT, Inbox, MailboxOverflow

log = structlog.get_logger()

BATCH = 256
"""Most events journalled in one transaction."""


class JournalFullError(Exception):
    """The event could not be journalled; nothing has happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an event. `ignored` says why nothing was done, or is None.

    `duplicate`: this report of a trainer was journalled before, under another sequence.
    """

    sequence: int
    ignored: str | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class _Letter:
    event: Event
    sender: tuple[int, int]
    answer: asyncio.Future[Outcome]

    @property
    def run(self) -> str:
        return getattr(self.event, "run", "")

    def settle(self, outcome: Outcome) -> None:
        if not self.answer.done():
            self.answer.set_result(outcome)

    def refuse(self, problem: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(JournalFullError(problem))


@dataclass(frozen=True, slots=True)
class _Probe:
    """Asks whether the runtime gets on."""

    answer: asyncio.Future[None]

    def settle(self) -> None:
        if not self.answer.done():
            self.answer.set_result(None)


@dataclass(slots=True)
class _Batch:
    """What a group of letters comes to. `answers`: letter, index of its entry, why ignored."""

    state: State
    entries: list[Entry] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    answers: list[tuple[_Letter, int, str | None]] = field(default_factory=list)
    duplicates: list[_Letter] = field(default_factory=list)
    heard: dict[tuple[str, int], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Trouble:
    """The journal cannot be written. `since`: monotonic seconds."""

    since: float
    refused: int = 0
    problem: str = ""


class Executor(Protocol):
    """Carries out commands; must not block, and answers by posting events."""

    def execute(self, command: Command) -> None:
        """Begin to carry out one command."""


Observer = Callable[[Stored, State], None]


class Runtime:
    """Owns the supervisor's state and its journal."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        on_commit: Callable[[float], None] = lambda _: None,
        on_refusal: Callable[[], None] = lambda: None,
        compact_every: int = EVERY,
    ) -> None:
        self.state = State()
        self.inbox = Inbox()
        self._journal = journal
        self._clock = clock
        self._observers: list[Observer] = []
        # None wakes a runtime that has been closed.
        self._mailbox: asyncio.Queue[_Letter | _Probe | None] = asyncio.Queue(MAILBOX_LIMIT)
        self._reading = asyncio.Lock()
        self._compactor = Compactor(
            journal, self._reading, every=compact_every, at_start=min(AT_START, compact_every)
        )
        self._sequence = 0
        self._on_commit = on_commit
        self._on_refusal = on_refusal
        self._trouble: _Trouble | None = None
        self._closed = False
        self._ended = asyncio.Event()

    @property
    def sequence(self) -> int:
        """The newest record that is journalled and acted on."""
        return self._sequence

    def observe(self, observer: Observer) -> None:
        """Call this for every record, on replay and when it is journalled."""
        self._observers.append(observer)

    def replay(self) -> Stored | None:
        """Fold the journal into the state; return its last record, or None if it is empty.

        Raise `JournalError` for a record that this release does not know.
        """

        def tell(stored: Stored, state: State) -> None:
            self.state = state
            self._heard(stored)
            self._tell(stored)

        folded = fold(self._journal, tell)
        self.state = folded.state
        self._sequence = folded.last.sequence if folded.last is not None else 0
        self._compactor.start(self._sequence, folded.stepped)
        return folded.last

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

    async def probe(self) -> None:
        """Return when everything that waits now is handled and the journal has answered since.

        Whether it could be written is another matter: a refusal is an answer.
        """
        if not self._closed:
            probe = _Probe(asyncio.get_running_loop().create_future())
            await self._mailbox.put(probe)
            await probe.answer

    async def history(
        self,
        run: str,
        after: int,
        limit: int,
        *,
        kinds: Collection[str] = (),
        newest_first: bool = False,
    ) -> list[Stored]:
        """Journal records of a run (or of all) behind `after`, at most `limit`.

        `kinds`: only records of these kinds; empty: of every kind.
        """
        async with self._reading:
            return await to_its_end(
                lambda: list(
                    self._journal.read(
                        run=run, after=after, limit=limit, kinds=kinds, newest_first=newest_first
                    )
                )
            )

    async def run(self, executor: Executor) -> None:
        """Serve the mailbox until closed."""
        letters: list[_Letter] = []
        probe: _Probe | None = None
        try:
            while not (self._closed and self._mailbox.empty()):
                self._compactor.consider(self.state, self._sequence)
                letters, probe = await self._letters()
                await self._take(letters, executor)
                if probe is not None:
                    await self._try_journal()
                    probe.settle()
        finally:
            self._closed = True
            await self._compactor.close()
            waiting = [*letters, *([probe] if probe is not None else [])]
            while not self._mailbox.empty():
                waiting += filter(None, [self._mailbox.get_nowait()])
            for each in waiting:
                match each:
                    case _Letter():
                        each.refuse("the daemon is ending")
                    case _Probe():
                        each.settle()
            self._ended.set()

    async def close(self) -> None:
        """Refuse further events; return when those that wait are journalled and acted on."""
        if not self._closed:
            self._closed = True
            await self._mailbox.put(None)
        await self._ended.wait()

    async def _letters(self) -> tuple[list[_Letter], _Probe | None]:
        """At least one letter, or none when the runtime was closed; a probe that came behind."""
        letters: list[_Letter] = []
        letter = await self._mailbox.get()
        while letter is not None:
            if isinstance(letter, _Probe):
                return letters, letter
            letters.append(letter)
            if len(letters) == BATCH or self._mailbox.empty():
                break
            letter = self._mailbox.get_nowait()
        return letters, None

    async def _try_journal(self) -> None:
        try:
            async with self._reading:
                await asyncio.to_thread(self._journal.try_write)
        except (sqlite3.Error, OSError) as error:
            log.warning("journal_not_writable", error=str(error))

    async def _take(self, letters: Sequence[_Letter], executor: Executor) -> None:
        batch = self._step(letters)
        sequences: list[int] = []
        if batch.entries:
            try:
                async with self._reading:
                    began = time.monotonic()
                    sequences = await to_its_end(lambda: self._journal.append(batch.entries))
                    self._on_commit(time.monotonic() - began)
            except (sqlite3.Error, OSError) as error:
                log.error("journal_write_failed", error=str(error), events=len(letters))
                self._refuse(letters, str(error))
                return
            self._trouble = None
        self.state = batch.state
        self._sequence = sequences[-1] if sequences else self._sequence
        ignored = {index for _, index, why in batch.answers if why is not None}
        for index, (sequence, entry) in enumerate(zip(sequences, batch.entries, strict=True)):
            stored = _stored(sequence, entry, ignored=index in ignored)
            self._heard(stored)
            self._tell(stored)
        for letter, index, why in batch.answers:
            letter.settle(Outcome(sequence=sequences[index], ignored=why))
        for letter in batch.duplicates:
            letter.settle(Outcome(sequence=0, duplicate=True))
        for command in batch.commands:
            try:
                executor.execute(command)
            except Exception:
                # A defect of ours; what was not done is found by a timer or at the next link.
                log.exception("command_failed", command=repr(command))

    def _refuse(self, letters: Sequence[_Letter], error: str) -> None:
        self._trouble = trouble = self._trouble or _Trouble(self._clock.now())
        trouble.refused += len(letters)
        trouble.problem = error
        self._on_refusal()
        for letter in letters:
            letter.refuse(f"the journal cannot be written: {error}")

    def _step(self, letters: Sequence[_Letter]) -> _Batch:
        batch = _Batch(self.state)
        if self._trouble is not None:
            # It stands in the journal if this batch does.
            trouble = self._trouble
            duration_s = self._clock.now() - trouble.since
            self._supervise(
                batch,
                JournalRecovered(
                    refused=trouble.refused, duration_s=duration_s, problem=trouble.problem
                ),
                (0, 0),
            )
        for letter in letters:
            incarnation, sequence = letter.sender
            key = (letter.run, incarnation)
            heard = max(self.inbox.acknowledged(*key), batch.heard.get(key, 0))
            if sequence and sequence <= heard:
                self.inbox.duplicates += 1
                batch.duplicates.append(letter)
                continue
            if sequence:
                batch.heard[key] = sequence
            index = len(batch.entries)
            why = self._supervise(batch, letter.event, letter.sender)
            batch.answers.append((letter, index, why))
        return batch

    def _supervise(self, batch: _Batch, event: Event, sender: tuple[int, int]) -> str | None:
        """Add an event and what comes of it; return why nothing does, if so."""
        now, wall = self._clock.now(), self._clock.wall()
        batch.state, commands = supervised(batch.state, event, now)
        batch.entries.append(_entry(event, now, wall, sender))
        for command in commands:
            if isinstance(command, Record):
                batch.entries.append(_entry(command.event, now, wall, (0, 0), derived=True))
            else:
                batch.commands.append(command)
        return ignored_because(commands)

    def _heard(self, stored: Stored) -> None:
        """Remember which reports of trainers are journalled; forget those of a deleted run."""
        run = stored.message.run
        if run not in self.state.runs:
            self.inbox.forget(run)
        elif stored.sender_sequence:
            self.inbox.accept(run, stored.sender_incarnation, stored.sender_sequence)

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


def _stored(sequence: int, entry: Entry, *, ignored: bool) -> Stored:
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
        ignored=ignored,
    )
