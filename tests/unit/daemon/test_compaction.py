"""A compacted journal means the same, is smaller, and survives being cut short."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from trainerd.daemon.compaction import Compactor, compaction
from trainerd.daemon.folding import fold
from trainerd.daemon.journal import Journal, JournalError, Snapshot
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    Event,
    LauncherLost,
    PauseRequested,
    RunDeleted,
    StopRequested,
    TrainerExited,
)
from unit.daemon.house import play
from unit.daemon.journals import check_journals, compacted, folded
from unit.daemon.parts import ManualClock, Parts, Recorder, parts


async def lived(at: Parts, *, deleted: int = 1, records: int = 20) -> str:
    """A journal with deleted runs, and one that lives; return that one's id."""
    for number in range(deleted):
        gone = f"gone-{number}"
        await at.running_run(gone)
        for step in range(1, records):
            path = f"/c/{'x' * 2000}/{step}"
            saved = CheckpointSaved(run=gone, incarnation=1, step=step, path=path)
            await at.runtime.post(saved, sender=(1, step))
        await at.runtime.post(StopRequested(run=gone))
        await at.runtime.post(TrainerExited(run=gone, incarnation=1, exit_code=0))
        await at.runtime.post(RunDeleted(run=gone))
    run = await at.running_run("kept-1")
    await at.runtime.post(CheckpointSaved(run=run, incarnation=1, step=4, path="/c"), sender=(1, 9))
    await at.runtime.post(TrainerExited(run=run, incarnation=7, exit_code=0))
    await at.runtime.post(LauncherLost(reason="it went"))
    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            await lived(at)

    play(scene)
    return tmp_path / "journal.sqlite"


def runs_of(journal: Journal) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for stored in journal.read():
        found.setdefault(stored.message.run, []).append(stored.kind)
    return found


def test_deleted_runs_and_the_host_go_and_living_runs_stay_whole(path: Path) -> None:
    journal = Journal(path)
    before = runs_of(journal)
    meant = folded(journal)
    compacted(journal)
    after = runs_of(journal)

    assert before.keys() == {"", "gone-0", "kept-1"}
    assert after.keys() == {"", "kept-1"}
    assert after["kept-1"] == before["kept-1"]
    # The newest record tells the time.
    assert after[""] == ["launcher_lost"]
    assert folded(journal) == meant
    assert not journal.complete()
    journal.close()


def test_the_file_shrinks(path: Path) -> None:
    before = path.stat().st_size
    journal = Journal(path)
    compacted(journal)
    journal.close()

    assert path.stat().st_size < before / 2


def test_what_the_supervisor_ignored_is_no_fact_after_compaction_either(path: Path) -> None:
    journal = Journal(path)
    compacted(journal)
    ignored = []
    fold(journal, lambda stored, _: ignored.append(stored.kind) if stored.ignored else None)
    journal.close()

    assert ignored == ["trainer_exited"]


def test_cut_short_after_any_slice_it_means_the_same_and_the_next_one_ends_it(
    path: Path, tmp_path: Path
) -> None:
    journal = Journal(path)
    meant = folded(journal)
    journal.close()
    slices = 0
    done = False
    while not done:
        slices += 1
        copy = tmp_path / f"cut-{slices}"
        shutil.copy(path, copy)
        journal = Journal(copy)
        found = fold(journal, lambda stored, state: None)
        assert found.last is not None
        work = compaction(journal, found.state, found.last.sequence)
        done = any(next(work, "the end") == "the end" for _ in range(slices))
        journal.close()
        journal = Journal(copy)
        assert folded(journal) == meant
        compacted(journal)
        assert runs_of(journal).keys() == {"", "kept-1"}
        journal.close()
    assert slices > 3


def test_records_behind_the_snapshot_are_stepped_through_and_numbers_go_on(path: Path) -> None:
    async def scene() -> None:
        async with parts(path.parent) as at:
            newest = at.journalled()[-1].sequence
            for _ in compaction(at.journal, at.runtime.state, newest):
                pass
            await at.runtime.post(PauseRequested(run="kept-1"))
            await lived(at, records=3)
            state = at.runtime.state
            assert at.runtime.acknowledged("", "kept-1", 1) == 9
        journal = Journal(path)
        again = Runtime(journal, ManualClock())
        again.replay()
        first, *_ = journal.read(after=newest)
        journal.close()

        assert again.state == state
        assert again.acknowledged("", "kept-1", 1) == 9
        assert again.state.runs["kept-1"].pausing
        assert first.sequence == newest + 1

    play(scene)


def test_an_empty_runtime_after_deleting_everything_still_knows_the_time(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            at.clock.at = 77.0
            run = await at.running_run()
            for event in (
                StopRequested(run=run),
                TrainerExited(run=run, incarnation=1, exit_code=0),
                RunDeleted(run=run),
            ):
                await at.runtime.post(event)
        journal = Journal(tmp_path / "journal.sqlite")
        compacted(journal)
        last = Runtime(journal, ManualClock()).replay()
        count = sum(1 for _ in journal.read())
        journal.close()

        assert count == 1
        assert last is not None
        assert last.now == 77.0

    play(scene)


def snapshot_of(path: Path, **changes: object) -> None:
    """Change the snapshot on disk."""
    database = sqlite3.connect(path)
    for name, value in changes.items():
        database.execute(f"UPDATE snapshots SET {name} = ?", (value,))
    database.commit()
    database.close()


def test_a_snapshot_of_another_release_is_passed_over_while_all_records_are_there(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            await lived(at, deleted=0)
            state, newest = at.runtime.state, at.journalled()[-1].sequence
            body = b"of the moon"
            at.journal.keep_snapshot(
                Snapshot(sequence=newest, release="9.9", shape="strange", body=body)
            )
        journal = Journal(tmp_path / "journal.sqlite")
        again = Runtime(journal, ManualClock())
        again.replay()
        journal.close()

        assert again.state == state

    play(scene)


def test_a_snapshot_that_cannot_be_read_is_refused_where_records_are_gone(path: Path) -> None:
    journal = Journal(path)
    compacted(journal)
    journal.close()
    snapshot_of(path, release="9.9", shape="strange", body=b"of the moon")

    journal = Journal(path)
    with pytest.raises(JournalError, match=r"compacted by trainerd 9\.9.*use trainerd 9\.9"):
        Runtime(journal, ManualClock()).replay()
    journal.close()


def test_a_snapshot_that_lacks_what_has_a_default_is_read(path: Path) -> None:
    journal = Journal(path)
    compacted(journal)
    meant = folded(journal)
    journal.close()
    snapshot_of(path, release="0.0", shape="older")

    journal = Journal(path)
    assert folded(journal) == meant
    journal.close()


def test_a_busy_runtime_compacts_by_itself_and_writes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "journal.sqlite")
        runtime = Runtime(journal, ManualClock(), compact_every=40)
        runtime.replay()
        task = asyncio.create_task(runtime.run(Recorder(journal)))
        posted = 0
        while (kept := journal.snapshot()) is None or journal.complete():
            event: Event = LauncherLost(reason="again")
            await asyncio.gather(*(runtime.post(event) for _ in range(10)))
            posted += 10
        await runtime.post(PauseRequested(run="x"))
        state = runtime.state
        await runtime.close()
        await task
        again = Runtime(journal, ManualClock())
        again.replay()
        journal.close()

        assert kept.sequence >= 40
        assert posted >= kept.sequence
        assert again.state == state

    play(scene)


def test_a_journal_that_cannot_be_compacted_is_written_on(tmp_path: Path) -> None:
    class Stubborn(Journal):
        tries = 0

        def keep_snapshot(self, snapshot: Snapshot) -> None:
            self.tries += 1
            raise sqlite3.OperationalError("database or disk is full")

    async def scene() -> None:
        journal = Stubborn(tmp_path / "journal.sqlite")
        async with parts(tmp_path, journal=journal) as at:
            runtime = at.runtime
            runtime._compactor._due = 1
            while not journal.tries:
                await runtime.post(LauncherLost(reason="again"))
            outcome = await runtime.post(LauncherLost(reason="last"))

            assert outcome.ignored is None
            # Not at every record: after as many as it always takes.
            assert journal.tries == 1

    play(scene)


def test_a_compaction_that_removes_too_much_is_found_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_journals(path.parent) == 1

    def greedy(self: Journal, before: int, living: object, limit: int) -> int:
        return self._remove("kept-1", before, limit)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", greedy)
        with pytest.raises(AssertionError, match="changes"):
            check_journals(path.parent)


def test_a_start_compacts_only_what_is_worth_while(path: Path) -> None:
    async def started(at_start: int) -> Snapshot | None:
        journal = Journal(path)
        access = asyncio.Lock()
        found = fold(journal, lambda stored, state: None)
        assert found.last is not None
        compactor = Compactor(journal, access, every=10_000, at_start=at_start)
        compactor.start(found.last.sequence, found.stepped)
        compactor.consider(found.state, found.last.sequence)
        task = compactor._task
        if task is not None:
            await task
        await compactor.close()
        snapshot = journal.snapshot()
        journal.close()
        return snapshot

    async def scene() -> None:
        assert await started(1_000) is None
        assert await started(10) is not None

    play(scene)
