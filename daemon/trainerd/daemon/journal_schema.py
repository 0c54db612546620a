"""The journal's file: its tables, what older formats lack, and whether it is whole.

Format 2 has snapshots and gives space back; format 1 had neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from trainerd.v1.protocol import SOFTWARE

SCHEMA = 2
_EVENTS = """
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
_SNAPSHOTS = """
CREATE TABLE snapshots (
  sequence INTEGER PRIMARY KEY,
  release TEXT NOT NULL,
  shape TEXT NOT NULL,
  body BLOB NOT NULL
);
"""
_FROM: Mapping[int, str] = MappingProxyType({0: _EVENTS + _SNAPSHOTS, 1: _SNAPSHOTS})
"""What is missing in a journal of each older format; 0: in an empty file."""


class JournalError(Exception):
    """The journal cannot be used; the message says why and what to do."""


def prepare(database: sqlite3.Connection, path: Path) -> None:
    """Lock the file, check it, and bring it to this format in one transaction."""
    database.execute("PRAGMA busy_timeout = 2000")
    # Two daemons on one journal would both believe themselves the supervisor.
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    # Of an empty file only, and before anything is written into it.
    database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA:
        raise JournalError(
            f"journal {path} has format {version}, this daemon (trainerd {SOFTWARE}) reads formats "
            f"up to {SCHEMA}: use the trainerd release that wrote it, or move the file away"
        )
    if version == 0 and database.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise JournalError(
            f"journal {path} is a database of something else: move the file away, or set "
            f"daemon.state_directory to another directory"
        )
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    _check(database, path)
    if version < SCHEMA:
        database.executescript(f"BEGIN;{_FROM[version]}PRAGMA user_version = {SCHEMA};COMMIT;")
    if version == 1:
        # Rewrites the file once, so that it can shrink from now on.
        database.execute("VACUUM")


def _check(database: sqlite3.Connection, path: Path) -> None:
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise JournalError(damaged(path, " ".join(str(found).split())))


def damaged(path: Path, what: str) -> str:
    """What to say of a journal whose content is wrong."""
    return (
        f"journal {path} is damaged: {what}; restore it from a backup, or move it away: its runs "
        f"are forgotten then, their checkpoints stay"
    )
