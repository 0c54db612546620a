"""The journal: every event, in order, on disk before anything is done about it.

One SQLite file in WAL mode with full synchronisation; a commit is one transaction and one fsync
for as many events as came together (group commit). Derived records stand behind the event that
caused them and are not replayed.

A *snapshot* holds the supervisor's state behind one record; a replay begins there. Records of
deleted runs, and of the host, are then superfluous up to it: they can be removed. Everything a
living run has left is history that people read, and stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from trainerd.daemon.journal_schema import JournalError, damaged, prepare
from trainerd.v1 import event_pb2

__all__ = ["Entry", "Journal", "JournalError", "Snapshot", "Stored"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The encoded state behind record `sequence`, and who wrote it; see `state_codec`."""

    sequence: int
    release: str
    shape: str
    body: bytes


class Journal:
    """An open journal. One writer; readers may come from other threads, one call at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.DatabaseError as error:
            raise _unusable(path, error) from error
        try:
            prepare(self._db, path)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise _unusable(path, error) from error
        except JournalError:
            self._db.close()
            raise

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

    def try_write(self) -> None:
        """Begin a transaction and drop it: whoever writes meanwhile has come back."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("ROLLBACK")

    def read(
        self,
        *,
        run: str = "",
        after: int = 0,
        until: int | None = None,
        limit: int = -1,
        newest_first: bool = False,
        kinds: Collection[str] = (),
    ) -> Iterator[Stored]:
        """Records of a run (or of all), behind sequence `after`, at most `limit` (-1: all).

        `until`: the last sequence; None: the newest. `kinds`: only records of these kinds; empty:
        of every kind.
        """
        where, order = "sequence > ?", "DESC" if newest_first else "ASC"
        arguments: list[object] = [after]
        if run:
            where += " AND run = ?"
            arguments.append(run)
        if until is not None:
            where += " AND sequence <= ?"
            arguments.append(until)
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
            try:
                message = event_pb2.Event.FromString(body)
            except DecodeError as error:
                what = f"record {sequence} ({kind}) cannot be read: {error}"
                raise JournalError(damaged(self.path, what)) from error
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

    def snapshot(self) -> Snapshot | None:
        """The snapshot that a replay begins with; None: it begins with the first record."""
        row = self._db.execute("SELECT sequence, release, shape, body FROM snapshots").fetchone()
        if row is None:
            return None
        sequence, release, shape, body = row
        return Snapshot(sequence=sequence, release=release, shape=shape, body=body)

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """Put a snapshot in the place of the older one, in one transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute("DELETE FROM snapshots")
            self._db.execute(
                "INSERT INTO snapshots (sequence, release, shape, body) VALUES (?, ?, ?, ?)",
                (snapshot.sequence, snapshot.release, snapshot.shape, snapshot.body),
            )
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def remove(self, before: int, living: Collection[str], limit: int) -> int:
        """Remove at most `limit` records older than `before` that are of no run in `living`.

        Return how many there were, 0 when none is left. The oldest of a run go first. That a
        daemon started is a part of the story of the runs there were by then: it goes with them.
        """
        marks = ",".join("?" * len(living))
        oldest = f"SELECT min(sequence) FROM events WHERE run IN ({marks})"
        (since,) = self._db.execute(oldest, tuple(living)).fetchone()
        host = "kind != 'daemon_started' OR sequence < ?"
        removed = self._remove("", before, limit, host, before if since is None else since)
        run: str | None = ""
        while run is not None and not removed:
            following = "SELECT min(run) FROM events WHERE run > ?"
            (run,) = self._db.execute(following, (run,)).fetchone()
            if run is not None and run not in living:
                removed = self._remove(run, before, limit)
        return removed

    def _remove(
        self, run: str, before: int, limit: int, which: str = "?", argument: int = 1
    ) -> int:
        chosen = (
            f"SELECT sequence FROM events WHERE run = ? AND sequence < ? AND ({which})"
            " ORDER BY sequence LIMIT ?"
        )
        return self._db.execute(
            f"DELETE FROM events WHERE sequence IN ({chosen})", (run, before, argument, limit)
        ).rowcount

    def shrink(self, pages: int) -> bool:
        """Give at most so many unused pages back to the file system; False: there were none."""
        (unused,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (mode,) = self._db.execute("PRAGMA auto_vacuum").fetchone()
        if not unused or not mode:
            return False
        # As a script: the pragma does a page a row, and a query without columns is stepped once.
        self._db.executescript(f"PRAGMA incremental_vacuum({pages});")
        # The file itself shrinks when the log is folded into it.
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return True

    def complete(self) -> bool:
        """Whether no record was ever removed."""
        count, last = self._db.execute("SELECT count(*), max(sequence) FROM events").fetchone()
        return bool(count == (last or 0))

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        self._db.close()


def _unusable(path: Path, error: sqlite3.DatabaseError) -> JournalError:
    if getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
        return JournalError(damaged(path, str(error)))
    return JournalError(f"journal {path}: {error}; is another daemon using it, or the disk full?")
