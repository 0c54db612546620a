"""From the journal back to the supervisor's state, record by record.

With a snapshot the state is taken from there, and only the records behind it are stepped through;
the older ones are told as what they were.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from trainerd.daemon import codec, state_codec
from trainerd.daemon.journal import Journal, JournalError, Snapshot, Stored
from trainerd.daemon.journal_schema import damaged
from trainerd.daemon.supervision.commands import Command, Record
from trainerd.daemon.supervision.events import Event, EventIgnored
from trainerd.daemon.supervision.state import State
from trainerd.daemon.supervision.supervisor import step
from trainerd.v1.protocol import SOFTWARE

log = structlog.get_logger()

Tell = Callable[[Stored, State], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """The state behind the newest record `last` (None: there is none).

    `stepped`: how many records there are behind the snapshot.
    """

    state: State
    last: Stored | None
    stepped: int


def fold(journal: Journal, tell: Tell) -> Folded:
    """Fold a whole journal; `tell` is told of every record with the state behind it.

    Of a record up to the snapshot that is the snapshot's. Raise `JournalError` for what this
    release does not know.
    """
    try:
        snapshot, state = _begin(journal)
        first = snapshot.sequence if snapshot is not None else 0
        last: Stored | None = None
        if snapshot is not None:
            last = _told(journal, snapshot.sequence, state, tell)
        stepped = 0
        for stored in journal.read(after=first):
            ignored = None
            if not stored.derived:
                state, commands = supervised(state, _decoded(stored), stored.now)
                ignored = ignored_because(commands)
            last, stepped = stored, stepped + 1
            tell(replace(stored, ignored=ignored is not None), state)
    except sqlite3.DatabaseError as error:
        raise JournalError(damaged(journal.path, str(error))) from error
    return Folded(state=state, last=last, stepped=stepped)


def _begin(journal: Journal) -> tuple[Snapshot | None, State]:
    """The snapshot to begin with, and its state; no snapshot: the first record."""
    snapshot = journal.snapshot()
    if snapshot is None:
        return None, State()
    if snapshot.shape != state_codec.shape() and journal.complete():
        # Another release's: what this one would have made of the records counts.
        return None, State()
    try:
        return snapshot, state_codec.decode(snapshot.body)
    except ValueError as error:
        if journal.complete():
            log.warning("snapshot_not_readable", release=snapshot.release, error=str(error))
            return None, State()
        raise JournalError(
            f"journal {journal.path} was compacted by trainerd {snapshot.release}, and this "
            f"release (trainerd {SOFTWARE}) cannot read its snapshot: {error}; use trainerd "
            f"{snapshot.release}, or move the file away"
        ) from error


def _told(journal: Journal, until: int, state: State, tell: Tell) -> Stored | None:
    """Tell of the records up to the snapshot's: what was ignored says the record behind it."""
    cause: Stored | None = None
    group: list[Stored] = []
    last: Stored | None = None
    for stored in journal.read(until=until):
        last = stored
        if not stored.derived:
            _flush(cause, group, state, tell)
            cause, group = stored, []
        else:
            group.append(stored)
    _flush(cause, group, state, tell)
    return last


def _flush(cause: Stored | None, group: Sequence[Stored], state: State, tell: Tell) -> None:
    if cause is not None:
        run = cause.message.run
        ignored = any(each.kind == "event_ignored" and each.message.run == run for each in group)
        group = [replace(cause, ignored=ignored), *group]
    for each in group:
        # What a crash has kept from being removed is of no run there is.
        if not each.message.run or each.message.run in state.runs:
            tell(each, state)


def supervised(state: State, event: Event, now: float) -> tuple[State, tuple[Command, ...]]:
    """Step the supervisor. A defect of ours makes the event a recorded no-op, at replay as well."""
    try:
        return step(state, event, now=now)
    except Exception as error:
        # It is one run's: the daemon and every other run live on.
        log.exception("supervisor_defect", event_kind=codec.kind_of(event))
        reason = f"a defect of trainerd: {type(error).__name__}: {error}"
        run, kind = getattr(event, "run", ""), type(event).__name__
        return state, (Record(event=EventIgnored(run=run, kind=kind, reason=reason)),)


def ignored_because(commands: Sequence[Command]) -> str | None:
    """Why nothing was done about an event, or None."""
    for command in commands:
        if isinstance(command, Record) and isinstance(command.event, EventIgnored):
            return command.event.reason
    return None


def _decoded(stored: Stored) -> Event:
    try:
        return codec.decode(stored.message)  # type: ignore[return-value] # derived ones are not
    except ValueError as error:
        raise JournalError(
            f"journal record {stored.sequence} ({stored.kind}) is not one that this release knows: "
            f"{error}; use the trainerd release that wrote it"
        ) from error
