"""The journal on disk: what is written is there, in order, and nobody else's."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from trainerd.daemon.codec import encode, kind_of
from trainerd.daemon.journal import Entry, Journal, JournalError
from trainerd.daemon.supervision.events import (
    AnyEvent,
    DaemonStarted,
    EventIgnored,
    PauseRequested,
    TrainerExited,
)


def entry(event: AnyEvent, **fields: Any) -> Entry:
    values: dict[str, Any] = {
        "derived": isinstance(event, EventIgnored),
        "now": 1.5,
        "wall": 1.7e9,
        **fields,
    }
    return Entry(message=encode(event), kind=kind_of(event), **values)


def test_records_are_read_back_in_order_by_the_next_opener(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    first = journal.append(
        [
            entry(DaemonStarted(version="1", pid=7)),
            entry(PauseRequested(run="a")),
            entry(EventIgnored(run="a", kind="PauseRequested", reason="why")),
        ]
    )
    exited = TrainerExited(run="b", incarnation=2, exit_code=3)
    second = journal.append([entry(exited, sender_incarnation=2, sender_sequence=9)])
    journal.close()

    again = Journal(tmp_path / "j")
    stored = list(again.read())
    again.close()

    assert (first, second) == ([1, 2, 3], [4])
    assert [each.sequence for each in stored] == [1, 2, 3, 4]
    assert [each.kind for each in stored] == [
        "daemon_started",
        "pause_requested",
        "event_ignored",
        "trainer_exited",
    ]
    assert [each.derived for each in stored] == [False, False, True, False]
    assert (stored[3].sender_incarnation, stored[3].sender_sequence) == (2, 9)
    assert (stored[3].now, stored[3].wall) == (1.5, 1.7e9)
    assert stored[3].message.trainer_exited.exit_code == 3
    assert (stored[3].message.sequence, stored[3].message.time.seconds) == (4, 1_700_000_000)


def test_records_are_found_by_run_by_place_and_from_the_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append([entry(PauseRequested(run=run)) for run in "abababab"])

    def sequences(**which: Any) -> list[int]:
        return [each.sequence for each in journal.read(**which)]

    assert sequences(run="b") == [2, 4, 6, 8]
    assert sequences(run="b", after=4) == [6, 8]
    assert sequences(after=6) == [7, 8]
    assert sequences(limit=3) == [1, 2, 3]
    assert sequences(limit=2, newest_first=True) == [8, 7]
    journal.close()


def test_a_group_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append([entry(PauseRequested(run="a"))])
    bad = entry(PauseRequested(run="b"), now=None)
    with pytest.raises(sqlite3.Error):
        journal.append([entry(PauseRequested(run="b")), bad])

    assert [each.message.run for each in journal.read()] == ["a"]
    assert journal.append([entry(PauseRequested(run="c"))]) == [2]
    journal.close()


def test_a_second_opener_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    class Hasty(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            return super().execute(
                sql.replace("busy_timeout = 2000", "busy_timeout = 1"), *arguments
            )

    journal = Journal(tmp_path / "j")
    journal.append([entry(PauseRequested(run="a"))])
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Hasty))
    with pytest.raises(JournalError, match="locked; is another daemon using it"):
        Journal(tmp_path / "j")
    journal.close()


def test_a_journal_of_another_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "j") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = (tmp_path / "j").read_bytes()

    with pytest.raises(JournalError, match=r"has format 99, this daemon .* reads formats up to 2"):
        Journal(tmp_path / "j")
    with sqlite3.connect(tmp_path / "j") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (99,)
        assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    database.close()
    assert before


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "j"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)

    with pytest.raises(JournalError, match=r"journal .*j(: | is damaged: )"):
        Journal(path)
