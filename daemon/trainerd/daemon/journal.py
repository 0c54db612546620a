"""The journal: every event, in order, on disk before anything is done about it.

One SQLite file in WAL mode with full synchronisation; a commit is one transaction and one fsync
for as many events as came together (group commit). Derived records stand behind the event that
caused them and are not replayed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainerd.v1 import event_pb2

SCHEMA = 1
_TABLES = """
CREATE TABLE events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  run TEXT NOT NULL,
  kind TEXT NOT NULL,
  derived INTEGER NOT NULL,
  now REAL NOT NULL,
  wall REAL NOT NULL,
  sender_incarnation INTEGER NOT NULL,
  sender_sequence INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX events_by_run ON events (run, sequence);
"""


class JournalError(Exception):
    """The journal cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record to be written. `sender_*`: the envelope of a trainer's report, else 0."""

    message: event_pb2.Event
    kind: str
    derived: bool
    now: float
    wall: float
    sender_incarnation: int = 0
    sender_sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One record that was written. `ignored`: the supervisor did nothing about this event."""

    sequence: int
    message: event_pb2.Event
    kind: str
    derived: bool
    now: float
    wall: float
    sender_incarnation: int
    sender_sequence: int
    ignored: bool = False


class Journal:
    """An open journal. One writer; readers may come from other threads, one call at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.DatabaseError as error:
            raise _unusable(path, error) from error
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise _unusable(path, error) from error
        except JournalError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA busy_timeout = 2000")
        # Two daemons on one journal would both believe themselves the supervisor.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {SCHEMA};COMMIT;")
        elif version != SCHEMA:
            raise JournalError(
                f"journal {self.path} has format {version}, this daemon reads format {SCHEMA}: "
                f"use the trainerd release that wrote it, or move the file away"
            )

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Write records in one transaction, on disk when this returns; return their sequences."""
        sequences: list[int] = []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for entry in entries:
                cursor = self._db.execute(
                    "INSERT INTO events (run, kind, derived, now, wall, sender_incarnation,"
                    " sender_sequence, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        entry.message.run,
                        entry.kind,
                        entry.derived,
                        entry.now,
                        entry.wall,
                        entry.sender_incarnation,
                        entry.sender_sequence,
                        entry.message.SerializeToString(deterministic=True),
                    ),
                )
                sequences.append(int(cursor.lastrowid or 0))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return sequences

    def read(
        self,
        *,
        run: str = "",
        after: int = 0,
        limit: int = -1,
        newest_first: bool = False,
        kinds: Collection[str] = (),
    ) -> Iterator[Stored]:
        """Records of a run (or of all), behind sequence `after`, at most `limit` (-1: all).

        `kinds`: only records of these kinds; empty: of every kind.
        """
        where, order = "sequence > ?", "DESC" if newest_first else "ASC"
        arguments: list[object] = [after]
        if run:
            where += " AND run = ?"
            arguments.append(run)
        if kinds:
            where += f" AND kind IN ({','.join('?' * len(kinds))})"
            arguments += sorted(kinds)
        arguments.append(limit)
        rows = self._db.execute(
            "SELECT sequence, kind, derived, now, wall, sender_incarnation, sender_sequence, body"
            f" FROM events WHERE {where} ORDER BY sequence {order} LIMIT ?",
            arguments,
        )
        for sequence, kind, derived, now, wall, incarnation, sender, body in rows:
            message = event_pb2.Event.FromString(body)
            message.sequence = sequence
            message.time.FromNanoseconds(int(wall * 1e9))
            yield Stored(
                sequence=sequence,
                message=message,
                kind=kind,
                derived=bool(derived),
                now=now,
                wall=wall,
                sender_incarnation=incarnation,
                sender_sequence=sender,
            )

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        self._db.close()


def _unusable(path: Path, error: sqlite3.DatabaseError) -> JournalError:
    return JournalError(f"journal {path}: {error}; is another daemon using it, or the disk full?")
