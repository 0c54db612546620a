"""What cannot be read is not damaged: passed over and left, and never the reason to begin anew."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from fakes import training
from fakes.checkpoints import WAIT_S, Stores, save
from trainerd.actors import checkpoint_files as files
from trainerd.actors import checkpoint_finding, checkpoint_manifest, checkpoint_restore
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_manifest import MANIFEST
from trainerd.actors.checkpoint_restore import Restored, restore_newest
from trainerd.actors.errors import CheckpointsDamagedError, CheckpointsUnreadableError
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.reports import Fault, FaultClass
from trainerd.actors.step import abstract_state, data_mesh

pytestmark = pytest.mark.usefixtures("compiled_once")

DENIED = PermissionError(errno.EACCES, "Permission denied")
TORN = OSError(errno.EIO, "Input/output error")
STALE = OSError(errno.ESTALE, "Stale file handle")
LATE = TimeoutError(errno.ETIMEDOUT, "Connection timed out")


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    for store in made.made:
        assert store.close(WAIT_S)


def told(*places: Path, **how: Any) -> tuple[Restored | None, list[Fault]]:
    recorder = training.Recorder()
    abstract = abstract_state(training.program(), 0, data_mesh(jax.devices()[:1]))
    return restore_newest(places, abstract, recorder.faulted, **how), recorder.faults


def fail_for(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, path: Path, error: Exception
) -> None:
    """Calls of a function of `module` whose first argument is below `path` raise."""
    real = getattr(module, name)

    def failing(at: Any, *rest: Any, **named: Any) -> Any:
        where = getattr(at, "path", at)
        if where == path or path in where.parents:
            raise error
        return real(at, *rest, **named)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.parametrize(
    ("module", "name", "error", "reason"),
    [
        (files, "is_committed", DENIED, "permission_denied"),
        (files, "is_durable", STALE, "io_error"),
        (checkpoint_manifest, "verify_structure", TORN, "io_error"),
        (checkpoint_manifest, "verify_data", LATE, "timeout"),
        (checkpoint_restore, "_held", ValueError("unknown format"), "serialization"),
        (checkpoint_restore, "_load", TORN, "io_error"),
    ],
    ids=["look", "durable", "structure", "data", "metadata", "load"],
)
def test_what_cannot_be_read_is_told_passed_over_and_left_as_it_is(
    stores: Stores,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    error: Exception,
    reason: str,
) -> None:
    store = stores(tmp_path)
    save(store, 5)
    save(store, 7)
    with monkeypatch.context() as patched:
        fail_for(patched, module, name, tmp_path / "7", error)
        restored, (fault,) = told(tmp_path)
    assert restored is not None
    assert restored.checkpoint.step == 5
    assert restored.passed_over == {tmp_path / "7"}
    assert (fault.fault_class, fault.step) == (FaultClass.CHECKPOINT_CORRUPT, 7)
    assert fault.reason == reason
    assert "cannot be read, and is left as it is" in fault.message
    assert str(tmp_path / "7") in fault.message
    assert fault.suggestion.endswith("the next older one is used meanwhile")
    # It was good all the time.
    again, faults = told(tmp_path)
    assert again is not None
    assert (again.checkpoint.step, again.passed_over, faults) == (7, frozenset(), [])


def test_a_directory_that_cannot_be_listed_does_not_hide_the_other(
    stores: Stores, tmp_path: Path
) -> None:
    """Whichever of the two it is; and nothing at all is not taken for a new run."""
    save(stores(tmp_path / "sound"), 5)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for places in (("loop", "sound"), ("sound", "loop")):
        restored, (fault,) = told(*(tmp_path / place for place in places))
        assert restored is not None
        assert restored.checkpoint.path == tmp_path / "sound" / "5"
        assert "directory of checkpoints cannot be read, and is left as it is" in fault.message
        assert str(tmp_path / "loop") in fault.message
    with pytest.raises(CheckpointsUnreadableError, match=r"may be good ones; tried .*/loop"):
        told(tmp_path / "loop", tmp_path / "absent")


def test_where_some_are_damaged_and_some_cannot_be_read_there_may_be_a_good_one(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(tmp_path)
    save(store, 5)
    save(store, 7)
    (tmp_path / "5" / "meta" / "metadata").write_text("flipped")
    with monkeypatch.context() as patched:
        fail_for(patched, checkpoint_manifest, "verify_structure", tmp_path / "7", TORN)
        with pytest.raises(CheckpointsUnreadableError) as raised:
            told(tmp_path)
    assert str(tmp_path / "5") in str(raised.value)
    assert "Input/output error" in str(raised.value)
    assert (tmp_path / "5.damaged").is_dir()
    shutil.rmtree(tmp_path / "7")
    save(store, 7)
    (tmp_path / "7" / "meta" / "metadata").write_text("flipped")
    with pytest.raises(CheckpointsDamagedError):
        told(tmp_path)


def test_one_that_vanishes_between_the_listing_and_the_reading_is_not_loaded_unverified(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(tmp_path)
    save(store, 5)
    save(store, 7)
    found = checkpoint_finding.find([tmp_path])
    (tmp_path / "7" / MANIFEST).unlink()
    monkeypatch.setattr(checkpoint_restore, "find", lambda _: found)
    restored, (fault,) = told(tmp_path)
    assert restored is not None
    assert restored.checkpoint.step == 5
    assert fault.reason == "not_found"
    assert (tmp_path / "7").is_dir()


def test_a_run_that_is_known_to_have_one_never_begins_anew(stores: Stores, tmp_path: Path) -> None:
    """Its directory is gone: not mounted, say."""
    known = Checkpoint(step=7, path=tmp_path / "gone" / "7")
    with pytest.raises(CheckpointsUnreadableError, match=r"gone/7 .*it was durable"):
        told(tmp_path / "gone", known=known)
    save(stores(tmp_path / "fallback"), 5)
    restored, (fault,) = told(tmp_path / "gone", tmp_path / "fallback", known=known)
    assert restored is not None
    assert restored.checkpoint.step == 5
    assert (fault.step, fault.reason) == (7, "not_found")
    # What is there, or newer, is no reason to say anything.
    here = Checkpoint(step=5, path=tmp_path / "fallback" / "5")
    assert told(tmp_path / "fallback", known=here)[1] == []
    older = Checkpoint(step=3, path=tmp_path / "fallback" / "3")
    assert told(tmp_path / "fallback", known=older)[1] == []


def test_what_the_run_has_gone_back_from_is_no_reason_not_to_begin_anew(
    stores: Stores, tmp_path: Path
) -> None:
    save(stores(tmp_path), 7)
    gone = Entry(
        first_batch=0,
        last_batch=9,
        slots=None,
        fault_class=FaultClass.NON_FINITE_STEP,
        decision=Omission.SKIP,
    )
    known = Checkpoint(step=9, path=tmp_path / "9")
    assert told(tmp_path, left_out=[gone], known=known) == (None, [])


def test_one_that_could_not_be_read_stays_and_its_step_is_saved_anew(
    stores: Stores, tmp_path: Path
) -> None:
    """Nothing is told to be durable because of it; retention leaves it alone."""
    save(stores(tmp_path), 7)
    store = stores(tmp_path, distrusted=[tmp_path / "7"], keep=1)
    assert store.newest() is None
    assert store.durable(7) is None
    save(store, 5)
    save(store, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "7"]
    save(store, 7)
    assert store.durable(7) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "7.damaged"]


def test_of_what_is_newer_only_what_is_superseded_goes(stores: Stores, tmp_path: Path) -> None:
    store = stores(tmp_path)
    for step in (5, 7, 9):
        save(store, step)  # its cursor is step + 1
    entry = Entry(
        first_batch=8,
        last_batch=8,
        slots=None,
        fault_class=FaultClass.NON_FINITE_STEP,
        decision=Omission.SKIP,
    )
    (tmp_path / "7" / "meta" / "metadata").write_text("unreadable")
    store.discard_superseded(5, [entry])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "7"]
