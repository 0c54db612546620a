"""A journal of an older release is brought to this format, whole or not at all."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import MappingProxyType

import pytest

from trainerd.daemon import journal_schema
from trainerd.daemon.journal import Journal, JournalError
from trainerd.daemon.journal_schema import SCHEMA
from trainerd.daemon.supervision.events import RunState
from unit.daemon.house import play
from unit.daemon.journals import check_journals, folded
from unit.daemon.parts import parts

DUMP = Path(__file__).parent / "journal_v1.sql"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that trainerd 0.1.0 left: one run trains, one waits, one was deleted."""
    database = sqlite3.connect(tmp_path / "journal.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(DUMP.read_text())
    database.close()
    return tmp_path / "journal.sqlite"


def pragma(path: Path, name: str) -> int:
    database = sqlite3.connect(path)
    try:
        return int(database.execute(f"PRAGMA {name}").fetchone()[0])
    finally:
        database.close()


def test_a_journal_of_format_1_is_migrated_and_means_the_same(path: Path) -> None:
    before = sqlite3.connect(path)
    records = before.execute("SELECT * FROM events ORDER BY sequence").fetchall()
    before.close()

    journal = Journal(path)
    found = folded(journal)
    journal.close()

    states = {run.name: run.state for run in found.state.runs.values()}
    assert states == {"kept": RunState.RUNNING, "waiting": RunState.QUEUED}
    kept = next(view for view in found.views.values() if view.spec.name == "kept")
    assert (kept.restarts, kept.durable_step, kept.incarnation) == (1, 20, 2)
    (entry,) = found.ledgers[kept.id]
    assert (entry.first_batch, entry.last_batch, entry.decision) == (12, 12, "skip")
    after = sqlite3.connect(path)
    assert after.execute("SELECT * FROM events ORDER BY sequence").fetchall() == records
    after.close()
    # It can shrink from now on.
    assert (pragma(path, "user_version"), pragma(path, "auto_vacuum")) == (SCHEMA, 2)
    assert check_journals(path.parent) == 1


def test_a_migrated_journal_is_written_on(path: Path) -> None:
    async def scene() -> None:
        last = pragma(path, "user_version")
        async with parts(path.parent) as at:
            newest = at.journalled()[-1].sequence
            await at.starting_run("new-1")

            assert last == 1
            assert at.journalled()[-1].sequence > newest
            assert {"new-1"} < at.runtime.state.runs.keys()

    play(scene)


def test_a_migration_that_fails_leaves_the_old_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = f"{journal_schema._FROM[1]} CREATE TABLE events (x);"
    with monkeypatch.context() as patch:
        patch.setattr(journal_schema, "_FROM", MappingProxyType({1: broken}))
        with pytest.raises(JournalError):
            Journal(path)

    assert pragma(path, "user_version") == 1
    database = sqlite3.connect(path)
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    database.close()
    assert ("snapshots",) not in tables
    Journal(path).close()
    assert pragma(path, "user_version") == SCHEMA


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "j")
    database.execute("CREATE TABLE photographs (name TEXT)")
    database.close()
    before = (tmp_path / "j").read_bytes()

    with pytest.raises(JournalError, match="is a database of something else"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == before


def test_a_damaged_journal_is_refused_with_what_to_do(path: Path) -> None:
    Journal(path).close()
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)

    with pytest.raises(JournalError, match=r"is damaged: .*restore it from a backup"):
        Journal(path)


def test_a_record_that_is_no_message_is_damage(path: Path) -> None:
    Journal(path).close()
    database = sqlite3.connect(path)
    database.execute("UPDATE events SET body = X'FF' WHERE sequence = 3")
    database.commit()
    database.close()

    journal = Journal(path)
    with pytest.raises(JournalError, match=r"is damaged: record 3 \(run_submitted\)"):
        list(journal.read())
    journal.close()
