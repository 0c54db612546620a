"""Going back: which checkpoint is used, what is removed, what stays readable."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import orbax.checkpoint as ocp
import pytest

from fakes import training
from fakes.checkpoints import WAIT_S, FakeOrbax, Stores, meta, restore, save, state
from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_meta import read_meta
from trainerd.actors.checkpoint_past import superseded
from trainerd.actors.digest import state_digest
from trainerd.actors.errors import CheckpointsDamagedError
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import FaultClass, Result, StepRecord

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    for store in made.made:
        assert store.close(WAIT_S)


def skipped(first: int, last: int) -> Entry:
    return Entry(
        first_batch=first,
        last_batch=last,
        slots=None,
        fault_class=FaultClass.NON_FINITE_STEP,
        decision=Omission.SKIP,
    )


def steps(directory: Path) -> list[int]:
    return [checkpoint.step for checkpoint in files.committed(directory)]


def test_a_rollback_restores_the_newest_old_enough_of_all_directories(
    stores: Stores, tmp_path: Path
) -> None:
    for step in (10, 30):
        save(stores(tmp_path / "own"), step)
    save(stores(tmp_path / "fallback"), 20)
    places = (tmp_path / "own", tmp_path / "fallback")
    for at_most_step, expected in ((25, 20), (19, 10), (5, 10), (99, 30)):
        restored = restore(*places, at_most_step=at_most_step)
        assert restored is not None
        assert restored.checkpoint.step == expected
        assert state_digest(restored.state) == state_digest(state(expected))
    assert restore(tmp_path / "none", at_most_step=5) is None


# Orbax leaves coroutines behind when it cannot read a file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_rollback_passes_over_a_damaged_one(stores: Stores, tmp_path: Path) -> None:
    store = stores(tmp_path)
    for step in (10, 20, 30):
        save(store, step)
    (tmp_path / "20" / "meta" / "metadata").write_text("gone")
    restored = restore(tmp_path, at_most_step=25)
    assert restored is not None
    assert restored.checkpoint.step == 10
    for step in (10, 30):
        (tmp_path / str(step) / "meta" / "metadata").write_text("gone")
    with pytest.raises(CheckpointsDamagedError):
        restore(tmp_path, at_most_step=25)


def test_a_checkpoint_trained_on_a_batch_left_out_by_now_is_passed_over(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a crash between the report of a rollback and the removal of what it went behind."""
    store = stores(tmp_path)
    for step in (10, 20, 30):
        save(store, step)  # its cursor is step + 1
    rolled_back = [skipped(21, 35)]
    with caplog.at_level(logging.WARNING):
        restored = restore(tmp_path, left_out=rolled_back)
    assert restored is not None
    assert restored.checkpoint.step == 20
    assert [r.getMessage() for r in caplog.records] == [
        f"checkpoint {tmp_path / '30'} is passed over: it was trained on batch 21, which is left "
        "out by now"
    ]
    assert steps(tmp_path) == [30, 20, 10]
    # All of them, as after a rollback to the initial state: nothing to restore, nothing damaged.
    assert restore(tmp_path, left_out=[skipped(0, 35)]) is None


def test_a_checkpoint_that_left_the_batches_out_itself_is_of_the_past(
    stores: Stores, tmp_path: Path
) -> None:
    store = stores(tmp_path)
    save(store, 20)
    save(store, 30, entries=[skipped(21, 25)])
    restored = restore(tmp_path, left_out=[skipped(21, 25)])
    assert restored is not None
    assert restored.checkpoint.step == 30


def test_a_run_that_died_before_the_removal_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    """The rollback is journalled, the checkpoints that it went behind are still there."""
    plan = Plan(
        steps=14,
        global_batch=12,
        microbatch=3,
        checkpoint_every_steps=2,
        checkpoint_keep=2,
        rollback_steps=4,
    )
    ledger = [skipped(6, 11)]

    def train(name: str, steps: int, entries: Sequence[Entry] = ()) -> Result:
        def on_step(record: StepRecord) -> None:
            if entries == () and record.step > 2:
                # No save has to wait for another.
                recorder.wait_for("saved", (record.step - 1) // 2)

        recorder = training.Recorder(on_step=on_step)
        return run_loop(
            training.program(),
            dataclasses.replace(plan, steps=steps),
            checkpoint_directory=tmp_path / name,
            ledger=entries,
            reporter=recorder,
            devices=jax.devices()[:1],
        )

    train("died", 10)
    assert steps(tmp_path / "died") == [10, 8, 6]
    ended = train("died", 14, ledger)
    assert ended.state_digest == train("never", 14, ledger).state_digest
    assert (ended.durable_step, ended.skipped_batches) == (14, 6)
    assert not list((tmp_path / "died").glob("*.damaged"))
    for checkpoint in files.committed(tmp_path / "died"):
        meta = read_meta(checkpoint.path)
        assert not superseded(meta, ledger)


def test_after_a_crash_before_the_removal_a_superseded_step_is_saved_anew(
    stores: Stores, tmp_path: Path
) -> None:
    """A store that never heard of the rollback does not answer from the abandoned past."""
    save(stores(tmp_path), 30)
    left_out = skipped(21, 35)
    save(stores(tmp_path), 30, "mine", entries=[left_out])
    assert left_out in read_meta(tmp_path / "30").ledger
    assert [r.request_ids for r in stores.recorder.all("saved")] == [(), ("mine",)]
    assert (tmp_path / "30.damaged").is_dir()


def test_what_is_newer_is_discarded_and_the_same_step_is_saved_anew(
    stores: Stores, tmp_path: Path
) -> None:
    store = stores(tmp_path)
    for step in (10, 20, 30):
        save(store, step)
    store.discard_after(20)
    assert steps(tmp_path) == [20, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "20"]
    newest = store.newest()
    assert newest is not None
    assert newest.step == 20
    assert store.durable(30) is None
    save(store, 30)
    assert steps(tmp_path) == [30, 20, 10]
    assert [r.step for r in stores.recorder.all("saved")] == [10, 20, 30, 30]


def test_a_save_in_flight_of_the_abandoned_past_is_never_reported(
    stores: Stores, tmp_path: Path
) -> None:
    orbax = FakeOrbax()
    store = stores(tmp_path, checkpointer=orbax)
    orbax.gate.clear()
    store.save(30, state(30), meta(31), ("mine",))
    store.discard_after(20)
    # The run has come to the same step again: another state.
    store.save(30, state(30), meta(99), ("again",))
    orbax.gate.set()
    assert store.drain(WAIT_S)
    assert stores.recorder.all("saved") == []
    assert steps(tmp_path) == []
    assert store.wanted
    save(store, 31)
    (record,) = stores.recorder.all("saved")
    assert record.step == 31
    assert set(record.request_ids) == {"mine", "again"}
    assert not store.wanted


def test_a_save_in_flight_of_the_state_gone_back_to_is_seen_through(
    stores: Stores, tmp_path: Path
) -> None:
    orbax = FakeOrbax()
    store = stores(tmp_path, checkpointer=orbax)
    orbax.gate.clear()
    store.save(20, state(20), meta(21))
    store.discard_after(20)
    orbax.gate.set()
    assert store.drain(WAIT_S)
    assert [r.step for r in stores.recorder.all("saved")] == [20]
    assert steps(tmp_path) == [20]


def test_tries_for_states_of_the_abandoned_past_are_forgotten(
    stores: Stores, tmp_path: Path
) -> None:
    orbax = FakeOrbax()
    orbax.failures = [OSError(5, "torn")]
    store = stores(tmp_path, checkpointer=orbax)
    save(store, 30)
    stores.now_s = 100.0
    assert store.wanted
    store.discard_after(20)
    assert not store.wanted


def test_what_cannot_be_discarded_is_not_taken_for_a_checkpoint_again(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(tmp_path, keep=2)
    for step in (20, 30):
        save(store, step)

    def refuse(checkpoint: files.Checkpoint) -> None:
        raise PermissionError(13, "Permission denied", str(checkpoint.path))

    with monkeypatch.context() as patched:
        patched.setattr(files, "remove", refuse)
        store.discard_after(20)
    newest = store.newest()
    assert newest is not None
    assert newest.step == 20
    assert store.durable(30) is None
    # It does not count among the newest either.
    save(store, 25)
    assert steps(tmp_path) == [30, 25, 20]
    save(store, 30)
    assert steps(tmp_path) == [30, 25]
    assert (tmp_path / "30.damaged").is_dir()
    assert store.durable(30) is not None


def test_what_a_rollback_needs_stays_beside_the_newest(stores: Stores, tmp_path: Path) -> None:
    store = stores(tmp_path, keep=2, rollback_steps=20, checkpointer=FakeOrbax())
    for step in range(5, 65, 5):
        save(store, step)
    # 60 and 55 are the newest, 35 is 20 older or more, 50 will take its place.
    assert steps(tmp_path)[:2] == [60, 55]
    assert any(20 <= 60 - step <= 45 for step in steps(tmp_path))
    assert len(steps(tmp_path)) <= 4


def test_plain_orbax_reads_what_is_left_after_a_rollback_and_beside_pins(
    stores: Stores, tmp_path: Path
) -> None:
    store = stores(tmp_path, keep=1, rollback_steps=20)
    for step in (10, 20, 40):
        save(store, step)
    pin = tmp_path / "pins" / "3" / "40"
    shutil.copytree(tmp_path / "40", pin)
    store.discard_after(20)
    assert steps(tmp_path) == [20]
    with ocp.CheckpointManager(tmp_path) as manager:
        assert manager.all_steps() == [20]
        args = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        assert manager.restore(20, args=args)["meta"]["batch"] == 21
    with ocp.CheckpointManager(pin.parent) as manager:
        assert manager.latest_step() == 40
    save(store, 21)
    assert pin.is_dir()
