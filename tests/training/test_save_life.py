"""The life of a checkpoint: committed, durable, reported; elsewhere while its directory fails."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.checkpoints import WAIT_S, FakeOrbax, Stores, meta, save, state
from trainerd.actors import checkpoint_files as files
from trainerd.actors import checkpoint_manifest as manifest
from trainerd.actors.checkpoint_manifest import MANIFEST, DigestMismatch
from trainerd.actors.checkpoint_places import BACK_FIRST_S

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    for store in made.made:
        assert store.close(WAIT_S)


@pytest.fixture
def orbax() -> FakeOrbax:
    return FakeOrbax()


def steps(stores: Stores) -> list[int]:
    return [record.step for record in stores.recorder.all("saved")]


def reasons(stores: Stores) -> list[tuple[int, str]]:
    return [(fault.step, fault.reason) for fault in stores.recorder.faults]


def make_durable(path: Path) -> None:
    """Put there what `FakeOrbax` and the manifest would."""
    for name in ("state", "meta"):
        (path / name).mkdir(parents=True)
    for name in ("_CHECKPOINT_METADATA", "state/_METADATA", "meta/metadata"):
        (path / name).write_text("{}")
    manifest.write(path)


def test_what_is_reported_has_its_manifest(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    there = []
    hears = stores.recorder.saved
    stores.recorder.saved = lambda record: (  # type: ignore[method-assign]
        there.append((Path(record.path) / MANIFEST).exists()),
        hears(record),
    )
    save(stores(tmp_path, checkpointer=orbax), 5)
    assert there == [True]
    manifest.verify(tmp_path / "5")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no_space"),
        (DigestMismatch(Path("/c/5"), "state/d", "has another digest"), "digest_mismatch"),
    ],
)
def test_without_a_manifest_it_is_not_durable_and_its_space_is_given_back(
    stores: Stores,
    orbax: FakeOrbax,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    reason: str,
) -> None:
    def refuse(path: Path, **more: Any) -> Any:
        raise failure

    store = stores(tmp_path, checkpointer=orbax)
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write", refuse)
        save(store, 5)
    assert (reasons(stores), steps(stores)) == ([(5, reason)], [])
    assert store.newest() is None
    assert list(tmp_path.iterdir()) == []
    save(store, 6)
    assert steps(stores) == [6]


def test_one_that_was_killed_before_its_manifest_is_written_again_and_not_counted(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    for step in (5, 6, 7):
        make_durable(tmp_path / str(step))
    for step in (5, 7):
        (tmp_path / str(step) / MANIFEST).unlink()
    store = stores(tmp_path, keep=2, checkpointer=orbax)
    assert store.newest() == files.Checkpoint(step=6, path=tmp_path / "6")
    save(store, 7)
    assert steps(stores) == [7]
    # Two durable ones are kept; what never was durable takes no space and is in nobody's way.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "7"]


def test_a_failed_save_never_costs_a_durable_one_that_is_kept(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    store = stores(tmp_path, keep=2, checkpointer=orbax)
    for step in (1, 2):
        save(store, step)
    make_durable(tmp_path / "0")
    orbax.failures = [OSError(errno.ENOSPC, "full")] * 3
    for step in (3, 4, 5):
        save(store, step)
    assert reasons(stores) == [(step, "no_space") for step in (3, 4, 5)]
    # What no rule keeps has made way, what one keeps has not.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_while_its_directory_fails_at_once_the_same_state_goes_to_the_fallback(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    first, second = tmp_path / "file" / "first", tmp_path / "second"
    (tmp_path / "file").write_text("in the way")
    store = stores(first, fallback=second, checkpointer=orbax)
    save(store, 5, "mine")
    assert reasons(stores) == [(5, "not_found")]
    assert stores.recorder.faults[0].request_ids == ()
    (record,) = stores.recorder.all("saved")
    assert (record.path, record.fallback, record.request_ids) == (
        str(second / "5"),
        True,
        ("mine",),
    )
    assert store.newest() == files.Checkpoint(step=5, path=second / "5")
    # Not tried again yet, and then tried and found well.
    save(store, 6)
    (tmp_path / "file").unlink()
    save(store, 7)
    assert reasons(stores) == [(5, "not_found")]
    stores.now_s = BACK_FIRST_S
    save(store, 8)
    assert [record.fallback for record in stores.recorder.all("saved")] == [True] * 3 + [False]
    assert store.newest() == files.Checkpoint(step=8, path=first / "8")


def test_after_a_failure_in_the_background_the_fallback_is_wanted_at_once(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    orbax.failures = [OSError(errno.EIO, "torn")]
    store = stores(tmp_path / "first", fallback=tmp_path / "second", checkpointer=orbax)
    save(store, 5, "mine")
    assert store.wanted
    save(store, 6)
    (record,) = stores.recorder.all("saved")
    assert (record.step, record.fallback, record.request_ids) == (6, True, ("mine",))


def test_where_both_fail_whoever_asked_is_told_and_the_next_try_waits(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    orbax.failures = [OSError(errno.EIO, "torn"), OSError(errno.ENOSPC, "full")]
    store = stores(tmp_path / "first", fallback=tmp_path / "second", checkpointer=orbax)
    save(store, 5, "mine")
    save(store, 6)
    assert [(f.reason, f.request_ids) for f in stores.recorder.faults] == [
        ("io_error", ()),
        ("no_space", ("mine",)),
    ]
    assert not store.wanted
    stores.now_s = 2.0
    assert store.wanted
    save(store, 7)
    # Back in the first one, since the fallback is no better.
    assert [record.fallback for record in stores.recorder.all("saved")] == [False]


def test_retention_counts_both_directories_together(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    store = stores(first, fallback=second, keep=2, checkpointer=orbax)
    for step in (1, 2):
        save(store, step)
    orbax.failures = [OSError(errno.EIO, "torn")]
    save(store, 3)
    save(store, 4)
    assert [[c.step for c in files.committed(place)] for place in (first, second)] == [[2], [4]]
    store.discard_after(2)
    assert [[c.step for c in files.committed(place)] for place in (first, second)] == [[2], []]


class Gated:
    """Makes one `FakeOrbax` after another; the first is held."""

    def __init__(self) -> None:
        self.made: list[FakeOrbax] = []

    def __call__(self) -> FakeOrbax:
        self.made.append(FakeOrbax())
        if len(self.made) == 1:
            self.made[0].gate.clear()
        return self.made[-1]


def test_a_save_that_does_not_end_is_left_behind_for_the_fallback(
    stores: Stores, tmp_path: Path
) -> None:
    gated = Gated()
    first, second = tmp_path / "first", tmp_path / "second"
    store = stores(first, fallback=second, save_timeout_s=60.0, checkpointer=gated)
    store.save(5, state(5), meta(6), ("mine",))
    stores.now_s = 61.0
    store.check_deadline()
    assert reasons(stores) == [(5, "timeout")]
    assert store.wanted
    save(store, 6)
    # However long it takes: where a save does not end nothing else is tried.
    stores.now_s = 10_000.0
    save(store, 7)
    assert [(r.step, r.fallback) for r in stores.recorder.all("saved")] == [(6, True), (7, True)]
    assert stores.recorder.all("saved")[0].request_ids == ("mine",)
    gated.made[0].gate.set()
    assert store.close(WAIT_S)
    stores.made.clear()
    # It was reported, and is not reported twice; what it has written is sound.
    assert reasons(stores) == [(5, "timeout")]
    assert steps(stores) == [6, 7]
    assert gated.made[0].closed


def test_what_was_left_behind_of_a_past_that_was_given_up_is_removed_when_it_ends(
    stores: Stores, tmp_path: Path
) -> None:
    gated = Gated()
    first, second = tmp_path / "first", tmp_path / "second"
    store = stores(first, fallback=second, save_timeout_s=60.0, checkpointer=gated)
    store.save(5, state(5), meta(6))
    stores.now_s = 61.0
    store.check_deadline()
    store.discard_after(4)
    gated.made[0].gate.set()
    assert store.close(WAIT_S)
    stores.made.clear()
    assert files.committed(first) == []


def test_a_save_that_is_late_and_then_fails_is_one_failure(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    store = stores(tmp_path, save_timeout_s=60.0, checkpointer=orbax)
    orbax.gate.clear()
    orbax.failures = [OSError(errno.EIO, "torn")]
    store.save(5, state(5), meta(6), ("mine",))
    stores.now_s = 61.0
    assert not store.drain(0.0)
    orbax.gate.set()
    assert store.drain(WAIT_S)
    assert reasons(stores) == [(5, "timeout")]
    # Nobody has told those who asked: the next one answers them.
    assert store.wanted
    save(store, 6)
    assert [(r.step, r.request_ids) for r in stores.recorder.all("saved")] == [(6, ("mine",))]


def test_a_directory_that_vanishes_during_a_save_is_one_failure(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    place = tmp_path / "checkpoints"
    store = stores(place, checkpointer=orbax)
    orbax.gate.clear()
    store.save(5, state(5), meta(6))
    shutil.rmtree(place)
    orbax.gate.set()
    assert store.drain(WAIT_S)
    assert reasons(stores) == [(5, "not_found")]
    save(store, 6)
    assert steps(stores) == [6]


def test_a_directory_that_another_process_saves_in_is_left_alone(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    mine, theirs = stores(tmp_path, checkpointer=orbax), Stores()
    save(mine, 5)
    other = theirs(tmp_path, checkpointer=FakeOrbax())
    save(other, 50)
    (fault,) = theirs.recorder.faults
    assert (fault.step, fault.reason) == (50, "io_error")
    assert "the directory is in use" in fault.message
    assert [path.name for path in tmp_path.iterdir()] == ["5"]
    assert mine.close(WAIT_S)
    stores.made.clear()
    save(other, 51)
    assert steps(theirs) == [51]
    assert other.close(WAIT_S)


def test_saves_that_fall_due_meanwhile_are_counted(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    store = stores(tmp_path, checkpointer=orbax)
    orbax.gate.clear()
    for step in (5, 6, 7):
        store.save(step, state(step), meta(step + 1))
    orbax.gate.set()
    assert store.drain(WAIT_S)
    save(store, 8)
    save(store, 9)
    assert [(r.step, r.coalesced) for r in stores.recorder.all("saved")] == [(5, 0), (8, 2), (9, 0)]


def test_a_save_tells_what_it_takes_and_what_is_left(
    stores: Stores, orbax: FakeOrbax, tmp_path: Path
) -> None:
    store = stores(tmp_path, keep=2, checkpointer=orbax)
    for step in (1, 2, 3):
        save(store, step)
    record = stores.recorder.all("saved")[-1]
    assert record.disk_bytes == 2 * record.bytes > 0
    assert 0 < record.disk_free_bytes <= shutil.disk_usage(tmp_path).free
