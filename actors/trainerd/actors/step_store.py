"""The step metrics of a run on disk: one SQLite file, a row for every applied update.

What is trained again takes the place of what was there, and a run that goes back to an older state
loses the rows after it: the file always tells the one past that the run's state has.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from trainerd.actors.step_ring import StepRing
from trainerd.actors.step_rows import BackTo, StepRow, decoded

FILE = "metrics.sqlite"
RING = "metrics.ring"
BATCH = 512
"""Rows of one transaction."""
MAX_NAMES = 4096
"""Names of metrics of one run that are listed."""
_BUSY_S = 5.0
_LOG_BYTES = 1024 * 1024
"""What SQLite's write-ahead log keeps of the disk between two checkpoints of its own."""
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_SCHEMA = """
BEGIN;
CREATE TABLE IF NOT EXISTS steps (
    step INTEGER PRIMARY KEY, batch INTEGER NOT NULL, time REAL NOT NULL,
    duration_s REAL NOT NULL, data_wait_s REAL NOT NULL, loss REAL, gradient_norm REAL,
    examples INTEGER NOT NULL, incarnation INTEGER NOT NULL, metrics TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost (rows INTEGER NOT NULL);
COMMIT;
"""
_ROW = "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class StepStore:
    """An open file, for the one process that trains the run. One thread at a time."""

    @staticmethod
    def open(path: Path) -> StepStore:
        """Open or make it; one that is damaged is put aside. Raise sqlite3.Error, OSError."""
        try:
            return StepStore(path)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "") not in _DAMAGED:
                raise
        os.replace(path, f"{path}.damaged")
        for rest in ("-wal", "-shm"):
            Path(f"{path}{rest}").unlink(missing_ok=True)
        return StepStore(path)

    def __init__(self, path: Path) -> None:
        """See `open`."""
        self._db = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            # Rows of a durable checkpoint's past must not be lost with the host's power.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            self._db.executescript(_SCHEMA)
            self._names = {name for (name,) in self._db.execute("SELECT name FROM names")}
        except sqlite3.Error:
            self._db.close()
            raise

    def write(self, records: Iterable[StepRow | BackTo], lost: int) -> None:
        """Write records in their order, in one transaction; `lost` more rows never came here.

        Raise sqlite3.Error; then nothing is written.
        """
        names: set[str] = set()
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            rows: list[tuple[object, ...]] = []
            for record in records:
                if isinstance(record, StepRow):
                    rows.append(_columns(record))
                    names.update(record.metrics)
                else:
                    db.executemany(_ROW, rows)
                    rows.clear()
                    db.execute("DELETE FROM steps WHERE step > ?", (record.step,))
            db.executemany(_ROW, rows)
            fresh = sorted(names - self._names)[: MAX_NAMES - len(self._names)]
            db.executemany("INSERT OR IGNORE INTO names VALUES (?)", [(name,) for name in fresh])
            if lost:
                db.execute("INSERT INTO lost VALUES (?)", (lost,))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._names.update(fresh)

    def close(self) -> None:
        """Fold the log into the file and close it."""
        self._db.close()


def drain(ring: StepRing, store: StepStore) -> int:
    """Move all rows that wait to disk; return how many. Raise sqlite3.Error with the rest kept."""
    moved = 0
    while True:
        rows, mark = ring.take(BATCH)
        if not rows:
            return moved
        lost = ring.lost
        store.write(_sound(rows), lost)
        ring.drop(mark, lost)
        moved += len(rows)


def rescue(ring_file: Path, store_file: Path) -> int:
    """Bring to disk what a process that was killed has left behind in memory.

    Return how many rows. Raise OSError or sqlite3.Error. No process trains the run.
    """
    if not ring_file.exists() or not store_file.parent.is_dir():
        return 0
    ring = StepRing(ring_file)
    try:
        if not ring.take(1)[0]:
            return 0
        with closing(StepStore.open(store_file)) as store:
            return drain(ring, store)
    finally:
        ring.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPage:
    """Rows by step, and whether there are later ones. `names`: of all metrics of the run."""

    rows: Sequence[StepRow]
    more: bool
    names: Sequence[str]
    lost: int


def read_page(path: Path, *, after: int, limit: int, max_bytes: int) -> StepPage:
    """At most `limit` rows (and about `max_bytes` of them) after a step; none without a file.

    May be called while another process writes. Raise sqlite3.Error.
    """
    nothing = StepPage(rows=(), more=False, names=(), lost=0)
    if not path.exists():
        return nothing
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'steps'").fetchone():
            return nothing  # It is being made.
        names = [name for (name,) in db.execute("SELECT name FROM names ORDER BY name")]
        (lost,) = db.execute("SELECT coalesce(sum(rows), 0) FROM lost").fetchone()
        query = "SELECT * FROM steps WHERE step > ? ORDER BY step LIMIT ?"
        rows: list[StepRow] = []
        size = 0
        for columns in db.execute(query, (after, limit + 1)):
            size += 100 + len(columns[-1])
            if len(rows) == limit or (rows and size > max_bytes):
                return StepPage(rows=rows, more=True, names=names, lost=lost)
            rows.append(_row(columns))
        return StepPage(rows=rows, more=False, names=names, lost=lost)


def _sound(rows: Iterable[bytes]) -> Iterable[StepRow | BackTo]:
    for row in rows:
        try:
            yield decoded(row)
        except ValueError:
            # Of another release; it would be in the way for ever.
            continue


def _columns(row: StepRow) -> tuple[object, ...]:
    # SQLite has no NaN: it becomes NULL.
    return (*row[:-1], json.dumps(dict(row.metrics), separators=(",", ":")))


def _row(columns: Sequence[object]) -> StepRow:
    *fields, text = columns
    metrics: Mapping[str, float] = json.loads(str(text))
    # Every column but these is never NULL.
    values = [math.nan if value is None else value for value in fields]
    return StepRow._make((*values, metrics))
