"""Checkpoints: exact, whole or not at all, never in the way, never silent."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from fakes import training
from fakes.checkpoints import WAIT_S, FakeOrbax, Stores, meta, restore, save, state
from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_restore import restore_newest
from trainerd.actors.checkpoint_retention import Retention
from trainerd.actors.checkpoint_retry import Retry
from trainerd.actors.checkpoint_tree import to_nested
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.digest import state_digest
from trainerd.actors.errors import (
    CheckpointError,
    CheckpointMismatchError,
    CheckpointsDamagedError,
    CheckpointsUnreadableError,
)
from trainerd.actors.reports import FaultClass
from trainerd.actors.state import TrainState
from trainerd.actors.step import abstract_state, data_mesh

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    for store in made.made:
        assert store.close(WAIT_S)


def test_x1_a_save_is_real_and_its_state_comes_back_bit_for_bit(
    stores: Stores, tmp_path: Path
) -> None:
    """What is saved is on disk, and is restored exactly, with where the run stood."""
    save(stores(tmp_path), 5)
    restored = restore(tmp_path)
    assert restored is not None
    assert state_digest(restored.state) == state_digest(state(5))
    assert jax.tree.structure(restored.state) == jax.tree.structure(state(5))
    assert restored.meta == meta(6)


def test_plain_orbax_reads_it_without_this_project(stores: Stores, tmp_path: Path) -> None:
    save(stores(tmp_path), 5)
    with ocp.CheckpointManager(tmp_path) as manager:
        assert manager.latest_step() == 5
        args = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        loaded = manager.restore(5, args=args)
    np.testing.assert_array_equal(loaded["state"]["params"]["a"], state(5).params["a"])
    assert loaded["meta"]["batch"] == 6


def test_a_save_reports_step_path_and_size(stores: Stores, tmp_path: Path) -> None:
    save(stores(tmp_path), 5, "mine")
    (record,) = stores.recorder.all("saved")
    assert (record.step, record.path, record.request_ids) == (5, str(tmp_path / "5"), ("mine",))
    assert record.bytes == files.size_bytes(tmp_path / "5") > 1000


def test_donating_the_state_at_once_is_safe(stores: Stores, tmp_path: Path) -> None:
    live = state(5)
    expected = state_digest(live)
    store = stores(tmp_path)
    store.save(5, live, meta(6))
    overwrite = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)
    jax.block_until_ready(overwrite(live))
    assert store.drain(WAIT_S)
    restored = restore(tmp_path)
    assert restored is not None
    assert state_digest(restored.state) == expected


def test_only_the_newest_are_kept(stores: Stores, tmp_path: Path) -> None:
    store = stores(tmp_path, keep=2)
    for step in (1, 2, 3, 10):
        save(store, step)
    assert [c.step for c in files.committed(tmp_path)] == [10, 3]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "3"]


def test_a_step_already_durable_is_answered_from_what_is_there(
    stores: Stores, tmp_path: Path
) -> None:
    store = stores(tmp_path)
    save(store, 5, "one")
    written = (tmp_path / "5" / "_CHECKPOINT_METADATA").stat().st_mtime_ns
    save(store, 5, "two")
    assert [r.request_ids for r in stores.recorder.all("saved")] == [("one",), ("two",)]
    assert (tmp_path / "5" / "_CHECKPOINT_METADATA").stat().st_mtime_ns == written


def test_the_newest_of_all_directories_is_restored(stores: Stores, tmp_path: Path) -> None:
    save(stores(tmp_path / "own"), 5)
    save(stores(tmp_path / "fallback"), 7)
    restored = restore(tmp_path / "own", tmp_path / "fallback", tmp_path / "absent")
    assert restored is not None
    assert restored.checkpoint.path == tmp_path / "fallback" / "7"


def test_nothing_to_restore_is_not_an_error(tmp_path: Path) -> None:
    assert restore(tmp_path, tmp_path / "absent") is None


def test_w20_an_empty_or_half_written_checkpoint_is_never_the_latest(
    stores: Stores, tmp_path: Path
) -> None:
    """Only what was committed whole is listed, restored or counted."""
    store = stores(tmp_path)
    save(store, 5)
    (tmp_path / "7").mkdir()
    shutil.copytree(tmp_path / "5" / "state", tmp_path / "8" / "state")
    (tmp_path / "9.orbax-checkpoint-tmp").mkdir()
    assert [c.step for c in files.committed(tmp_path)] == [5]
    assert store.newest() == files.Checkpoint(step=5, path=tmp_path / "5")
    save(store, 7)
    restored = restore(tmp_path)
    assert restored is not None
    assert restored.checkpoint.step == 7
    assert (tmp_path / "7.damaged").is_dir()


# Orbax leaves coroutines behind when it cannot read a file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "state" / "manifest.ocdbt").write_bytes(b"x"),
        lambda path: (path / "state" / "_METADATA").write_text("{"),
        lambda path: (path / "meta" / "metadata").write_text("not json"),
        lambda path: (path / "meta" / "metadata").write_text("{}"),
        lambda path: shutil.rmtree(path / "state" / "ocdbt.process_0"),
    ],
    ids=["manifest", "structure", "meta", "empty meta", "data"],
)
def test_a_damaged_checkpoint_is_reported_kept_and_passed_over(
    stores: Stores, tmp_path: Path, damage: Any
) -> None:
    store = stores(tmp_path)
    save(store, 5)
    save(store, 7)
    damage(tmp_path / "7")
    if (tmp_path / "7" / "state" / "d").exists():
        shutil.rmtree(tmp_path / "7" / "state" / "d")
    recorder = training.Recorder()
    abstract = abstract_state(training.program(), 0, data_mesh(jax.devices()[:1]))
    restored = restore_newest([tmp_path], abstract, recorder.faulted)
    assert restored is not None
    assert restored.checkpoint.step == 5
    (fault,) = recorder.faults
    assert fault.fault_class is FaultClass.CHECKPOINT_CORRUPT
    assert fault.step == 7
    assert (tmp_path / "7.damaged").is_dir()
    save(store, 7)
    again = restore(tmp_path)
    assert again is not None
    assert again.checkpoint.step == 7


def test_when_none_is_sound_all_that_were_tried_are_named(stores: Stores, tmp_path: Path) -> None:
    store = stores(tmp_path)
    for step in (5, 7):
        save(store, step)
        (tmp_path / str(step) / "meta" / "metadata").write_text("gone")
    with pytest.raises(CheckpointsDamagedError) as raised:
        restore(tmp_path)
    assert str(tmp_path / "5") in str(raised.value)
    assert str(tmp_path / "7") in str(raised.value)


def test_w21_another_state_is_refused_leaf_by_leaf(stores: Stores, tmp_path: Path) -> None:
    """The error names each leaf by its path, with shapes and dtypes on both sides."""

    def wider(key: jax.Array) -> Any:
        return {"a": jnp.ones((training.INPUTS, 9)), "c": jnp.ones(8, jnp.bfloat16)}

    save(stores(tmp_path), 5)
    other = training.program(init=wider, optimizer=optax.sgd(0.1))
    with pytest.raises(CheckpointMismatchError) as raised:
        restore(tmp_path, program=other)
    text = str(raised.value)
    assert "params/a is float32[5, 8] in the checkpoint, float32[5, 9] in the program" in text
    assert "params/b (float32[8]) is not in the program" in text
    assert "params/c (bfloat16[8]) is not in the checkpoint" in text
    assert (tmp_path / "5").is_dir()


def test_w21_optimizer_state_is_matched_by_path_shape_and_dtype_never_by_count(
    stores: Stores, tmp_path: Path
) -> None:
    """Equally many leaves, in the same order, under other names: another optimizer's."""

    def named(*names: str) -> optax.GradientTransformation:
        return optax.GradientTransformation(
            init=lambda params: {name: jnp.zeros(3) for name in names},
            update=lambda updates, state, params=None: (updates, state),
        )

    program = training.program(optimizer=named("first", "second"))
    store = stores(tmp_path)
    store.save(5, state(5, program), meta(6))
    assert store.drain(WAIT_S)
    with pytest.raises(CheckpointMismatchError) as raised:
        restore(tmp_path, program=training.program(optimizer=named("mean", "second")))
    text = str(raised.value)
    assert "opt_state/first (float32[3]) is not in the program" in text
    assert "opt_state/mean (float32[3]) is not in the checkpoint" in text
    assert "second" not in text
    assert restore(tmp_path, program=program) is not None


def test_typed_keys_and_empty_optimizer_states_survive(stores: Stores, tmp_path: Path) -> None:
    keyed = optax.GradientTransformation(
        init=lambda params: {"key": jax.random.key(9), "none": None},
        update=lambda updates, state, params=None: (updates, state),
    )
    for name, optimizer in (("keyed", keyed), ("empty", optax.sgd(0.1))):
        program = training.program(optimizer=optimizer)
        store = stores(tmp_path / name)
        store.save(3, state(3, program), meta(4))
        assert store.drain(WAIT_S)
        restored = restore(tmp_path / name, program=program)
        assert restored is not None
        assert state_digest(restored.state) == state_digest(state(3, program))


def test_two_leaves_of_one_name_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r'share the name "params.a.b"'):
        to_nested(
            TrainState(
                params={"a.b": jnp.ones(1), "a": {"b": jnp.ones(1)}},
                opt_state=(),
                step=jnp.int32(0),
                rng=jnp.zeros(2, jnp.uint32),
            )
        )


def test_a_save_that_falls_due_meanwhile_is_coalesced(stores: Stores, tmp_path: Path) -> None:
    orbax = FakeOrbax()
    store = stores(tmp_path, checkpointer=orbax)
    orbax.gate.clear()
    store.save(5, state(5), meta(6), ("a",))
    store.save(5, state(5), meta(6), ("same",))
    store.save(6, state(6), meta(7), ("b",))
    store.save(7, state(7), meta(8), ("c",))
    assert orbax.saved == [5]
    assert not store.wanted
    assert not store.drain(0.01)
    orbax.gate.set()
    assert store.drain(WAIT_S)
    assert store.wanted
    save(store, 8, "d")
    assert not store.wanted
    assert [(r.step, r.request_ids) for r in stores.recorder.all("saved")] == [
        (5, ("a", "same")),
        (8, ("b", "c", "d")),
    ]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no_space"),
        (ValueError("RESOURCE_EXHAUSTED: Error writing OCDBT"), "no_space"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission_denied"),
    ],
)
def test_a_failed_save_is_reported_cleaned_up_and_does_not_swallow_the_next(
    stores: Stores, tmp_path: Path, failure: Exception, reason: str
) -> None:
    orbax = FakeOrbax()
    orbax.failures = [failure]
    store = stores(tmp_path, checkpointer=orbax)
    save(store, 5, "mine")
    (fault,) = stores.recorder.faults
    assert fault.fault_class is FaultClass.CHECKPOINT_SAVE_FAILED
    assert (fault.step, fault.reason, fault.request_ids) == (5, reason, ("mine",))
    assert list(tmp_path.iterdir()) == []
    assert store.durable(5) is None
    save(store, 6)
    assert [r.step for r in stores.recorder.all("saved")] == [6]


# Orbax leaves coroutines behind when it is cut short.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_save_that_raises_at_once_leaves_nothing_behind_and_the_next_one_succeeds(
    stores: Stores, tmp_path: Path
) -> None:
    """Orbax's own threads may still write while the next save begins."""
    store = stores(tmp_path, keep=1)
    broken = state(5)
    broken.params["a"].delete()
    store.save(5, broken, meta(6))
    assert store.drain(WAIT_S)
    assert [f.step for f in stores.recorder.faults] == [5]
    for step in (6, 7):
        save(store, step)
    assert [r.step for r in stores.recorder.all("saved")] == [6, 7]
    assert [path.name for path in tmp_path.iterdir()] == ["7"]


def test_a_directory_that_cannot_be_is_reported_and_training_goes_on(
    stores: Stores, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    store = stores(tmp_path / "file" / "checkpoints")
    save(store, 5, "mine")
    (fault,) = stores.recorder.faults
    assert (fault.reason, fault.request_ids) == ("not_found", ("mine",))
    (tmp_path / "file").unlink()
    save(store, 6)
    assert [r.step for r in stores.recorder.all("saved")] == [6]


def test_orbax_saying_nothing_is_not_success(stores: Stores, tmp_path: Path) -> None:
    class Forgetful(FakeOrbax):
        def wait_until_finished(self) -> None:
            return None

    store = stores(tmp_path, checkpointer=Forgetful())
    save(store, 5)
    assert stores.recorder.all("saved") == []
    assert [f.reason for f in stores.recorder.faults] == ["not_found"]


def test_a_save_that_never_ends_is_reported_once(stores: Stores, tmp_path: Path) -> None:
    orbax = FakeOrbax()
    store = stores(tmp_path, checkpointer=orbax, save_timeout_s=60.0)
    orbax.gate.clear()
    store.save(5, state(5), meta(6))
    stores.now_s = 59.0
    store.save(6, state(6), meta(7))
    assert stores.recorder.faults == []
    stores.now_s = 61.0
    store.save(7, state(7), meta(8))
    store.save(8, state(8), meta(9))
    assert [(f.step, f.reason) for f in stores.recorder.faults] == [(5, "timeout")]
    orbax.gate.set()


def test_debris_of_a_killed_trainer_is_removed(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "3.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    save(stores(tmp_path), 5)
    assert [p.name for p in tmp_path.iterdir()] == ["5"]


def test_a_failed_save_is_wanted_again_with_back_off(stores: Stores, tmp_path: Path) -> None:
    """The next boundary after the back-off saves again; nobody waits for it."""
    orbax = FakeOrbax()
    orbax.failures = [OSError(errno.EIO, "torn")] * 3
    store = stores(tmp_path, checkpointer=orbax)
    save(store, 5)
    tried: list[float] = []
    for now_s in np.arange(0.0, 20.0, 0.5):
        stores.now_s = float(now_s)
        if store.wanted:
            tried.append(stores.now_s)
            save(store, 6 + len(tried))
    # 1 s after the first failure, then 2 s and 4 s after the next ones; then all is well.
    assert tried == [1.0, 3.0, 7.0]
    assert [f.step for f in stores.recorder.faults] == [5, 7, 8]
    assert [r.step for r in stores.recorder.all("saved")] == [9]


def test_a_regular_save_is_the_try_that_was_due(stores: Stores, tmp_path: Path) -> None:
    orbax = FakeOrbax()
    orbax.failures = [OSError(errno.EIO, "torn")]
    store = stores(tmp_path, checkpointer=orbax)
    save(store, 5)
    save(store, 6)
    stores.now_s = 100.0
    assert not store.wanted


def test_retries_are_bounded_and_a_success_begins_anew() -> None:
    retry, now, tries = Retry(), 0.0, []
    retry.failed(now)
    for _ in range(1000):
        now += 1.0
        if retry.due(now):
            tries.append(now)
            retry.began()
            retry.failed(now)
    assert np.diff([0.0, *tries]).tolist() == [1, 2, 4, 8, 16, 32, 60, 60]
    retry.succeeded()
    retry.failed(now)
    assert retry.due(now + 1.0)


def test_a_listener_that_raises_does_not_end_saving(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def angry(record: Any) -> None:
        raise RuntimeError("no telephone")

    store = stores(tmp_path, checkpointer=FakeOrbax())
    hears, stores.recorder.saved = stores.recorder.saved, angry  # type: ignore[method-assign]
    save(store, 5, "mine")
    assert "the save of step 5 could not be reported" in caplog.text
    stores.recorder.saved = hears  # type: ignore[method-assign]
    assert store.wanted
    save(store, 6)
    assert [(r.step, r.request_ids) for r in stores.recorder.all("saved")] == [(6, ("mine",))]


def test_a_directory_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(tmp_path)
    save(store, 5)

    def refuse(directory: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(directory))

    monkeypatch.setattr(files, "look", refuse)
    with pytest.raises(CheckpointsUnreadableError, match="PermissionError: Permission denied"):
        restore(tmp_path)
    assert store.newest() is None


def test_what_cannot_be_cleared_away_does_not_keep_from_saving(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "3.orbax-checkpoint-tmp").write_text("a file")
    (tmp_path / "4.orbax-checkpoint-tmp").mkdir()

    def refuse(directory: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(directory))

    with monkeypatch.context() as patched:
        patched.setattr(files, "remove_debris", refuse)
        save(stores(tmp_path), 5)
    assert [r.step for r in stores.recorder.all("saved")] == [5]
    save(stores(tmp_path), 6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["5", "6"]


def logs(path: str | Path, message: str) -> None:
    """Log an error to absl's logger from a module, as Orbax does."""
    absl = logging.getLogger("absl")
    absl.handle(absl.makeRecord("absl", logging.ERROR, str(path), 1, message, (), None))


def test_what_orbax_raises_it_does_not_log_as_well(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While we report a failure; what a user's own checkpoints say is left alone."""

    class Loud(FakeOrbax):
        def wait_until_finished(self) -> None:
            logs(ocp.__file__, "a traceback")
            logs("user.py", "from elsewhere")
            super().wait_until_finished()

    orbax = Loud()
    orbax.failures = [OSError(errno.EIO, "torn")]
    store = stores(tmp_path, checkpointer=orbax)
    save(store, 5)
    logs(ocp.__file__, "from a thread that ends late")
    assert caplog.messages == ["from elsewhere"]
    save(store, 6)
    logs(ocp.__file__, "of a user's own checkpoint")
    assert caplog.messages == ["from elsewhere"] * 2 + ["of a user's own checkpoint"]


def test_what_is_passed_over_at_a_restore_is_said_once(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores(tmp_path)
    save(store, 5)
    save(store, 7)
    (tmp_path / "7" / "state" / "_METADATA").write_text("{")
    assert restore(tmp_path) is not None
    assert caplog.messages == []
    logs(ocp.__file__, "of a user's own checkpoint")
    assert len(caplog.messages) == 1


def test_closing_sees_the_save_in_flight_through(tmp_path: Path) -> None:
    recorder = training.Recorder()
    store = CheckpointStore(
        tmp_path, retention=Retention(keep=1), listener=recorder, clock=lambda: 0.0
    )
    store.save(5, state(5), meta(6))
    assert store.close(WAIT_S)
    assert [r.step for r in recorder.all("saved")] == [5]


def test_closing_has_a_deadline(tmp_path: Path) -> None:
    orbax = FakeOrbax()
    store = CheckpointStore(
        tmp_path,
        retention=Retention(keep=1),
        listener=training.Recorder(),
        clock=lambda: 0.0,
        checkpointer=lambda: orbax,
    )
    orbax.gate.clear()
    store.save(5, state(5), meta(6))
    assert not store.close(0.01)
    orbax.gate.set()
    assert store.close(WAIT_S)
    assert orbax.closed
