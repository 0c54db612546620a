"""Every journal that a test leaves behind is folded twice: as it is, and compacted."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainerd.daemon.compaction import compaction
from trainerd.daemon.deadlines import Deadlines
from trainerd.daemon.folding import fold
from trainerd.daemon.journal import Journal, JournalError, Stored
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.state import State
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.views import Views
from trainerd.v1 import event_pb2, incident_pb2, run_pb2

_HEADER = b"SQLite format 3\0"


@dataclass(frozen=True)
class Fold:
    """What a journal amounts to: for the supervisor, for people, for the monitor."""

    state: State
    views: dict[str, run_pb2.Run]
    ledgers: dict[str, list[incident_pb2.LedgerEntry]]
    deadlines: dict[tuple[str, Phase], float | None]
    history: dict[str, list[event_pb2.Event]]
    heard: set[tuple[str, int, int]]
    now: float


def folded(journal: Journal) -> Fold:
    """Fold an open journal, with everything that observes one."""
    telemetry = Telemetry()
    views, deadlines = Views(telemetry), Deadlines(telemetry)
    heard: set[tuple[str, int, int]] = set()

    def tell(stored: Stored, state: State) -> None:
        views.apply(stored)
        deadlines.record(stored, state)
        if stored.sender_sequence:
            heard.add((stored.message.run, stored.sender_incarnation, stored.sender_sequence))

    found = fold(journal, tell)
    runs = found.state.runs
    return Fold(
        state=found.state,
        views={run: views.snapshot(runs[run], 0.0) for run in runs},
        ledgers={run: views.ledger(run) for run in runs},
        deadlines={
            (run, phase): deadlines.deadline_s(runs[run], phase) for run in runs for phase in Phase
        },
        history={run: [stored.message for stored in journal.read(run=run)] for run in runs},
        heard={each for each in heard if each[0] in runs},
        now=found.last.now if found.last is not None else 0.0,
    )


def compacted(journal: Journal) -> None:
    """Compact an open journal at its end, all slices at once."""
    found = fold(journal, lambda stored, state: None)
    if found.last is not None:
        for _ in compaction(journal, found.state, found.last.sequence):
            pass


def check_journals(folder: Path) -> int:
    """Check every journal below a folder, on copies; return how many there were."""
    checked = 0
    for path in sorted(folder.rglob("*")):
        if _is_journal(path):
            with tempfile.TemporaryDirectory(prefix="td-", dir="/tmp") as copy:
                checked += _check(path, Path(copy))
    return checked


def _check(path: Path, directory: Path) -> bool:
    for file in path.parent.glob(f"{path.name}*"):
        if file.name in (path.name, f"{path.name}-wal"):
            shutil.copy(file, directory / file.name)
    try:
        journal = Journal(directory / path.name)
    except JournalError:
        return False  # A test of what is refused.
    try:
        try:
            before = folded(journal)
        except JournalError:
            return False
        compacted(journal)
        after = folded(journal)
    finally:
        journal.close()
    for part in Fold.__dataclass_fields__:
        assert getattr(after, part) == getattr(before, part), f"{path}: {part} changes"
    return True


def _is_journal(path: Path) -> bool:
    if path.name not in ("journal.sqlite", "j") or not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(len(_HEADER)) != _HEADER:
            return False
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            tables = database.execute("SELECT name FROM sqlite_master").fetchall()
        finally:
            database.close()
    except sqlite3.Error:
        return True  # Still open, or only with its log; the copy tells.
    return not tables or ("events",) in tables
