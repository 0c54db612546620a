"""What a checkpoint holds is what was saved, or it is not loaded, and the run says why."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fakes import training
from fakes.checkpoints import WAIT_S, Stores, meta, restore, save, state
from soak import flips
from trainerd.actors import checkpoint_damage, checkpoint_manifest
from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_manifest import MANIFEST
from trainerd.actors.checkpoint_meta import made_by, read_meta
from trainerd.actors.checkpoint_restore import restore_newest
from trainerd.actors.digest import state_digest
from trainerd.actors.errors import CheckpointMismatchError, CheckpointsDamagedError
from trainerd.actors.reports import FaultClass
from trainerd.actors.state import TrainState
from trainerd.actors.step import abstract_state, data_mesh, replicated

pytestmark = pytest.mark.usefixtures("compiled_once")

FLIPS = 24


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    for store in made.made:
        assert store.close(WAIT_S)


def data_file(path: Path) -> Path:
    """The largest file of a checkpoint: it holds arrays."""
    found = (path / "state" / "ocdbt.process_0" / "d").iterdir()
    return max(found, key=lambda file: file.stat().st_size)


def flip(file: Path, bit: int) -> None:
    # In place: its inode may be shared, and must stay.
    with file.open("r+b") as opened:
        opened.seek(bit // 8)
        (byte,) = opened.read(1)
        opened.seek(bit // 8)
        opened.write(bytes([byte ^ 1 << bit % 8]))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: os.truncate(data_file(path), 100), "is of 100 bytes, expected"),
        (lambda path: os.truncate(data_file(path), 0), "is of 0 bytes, expected"),
        (lambda path: data_file(path).unlink(), "is missing, expected"),
        (lambda path: shutil.rmtree(path / "state" / "ocdbt.process_0"), "is missing, expected"),
        (lambda path: (path / "state" / "d" / "more").write_text("x"), "was added later"),
        (lambda path: flip(data_file(path), 999), "has the XXH3-128"),
        (lambda path: flip(path / MANIFEST, 999), "is damaged"),
    ],
    ids=["truncated", "emptied", "missing", "half copied", "added", "flipped", "manifest"],
)
def test_what_is_not_what_was_saved_is_marked_kept_and_passed_over(
    stores: Stores, tmp_path: Path, damage: Callable[[Path], None], problem: str
) -> None:
    """The next older one is used; the fault and a file in what is kept say why."""
    store = stores(tmp_path)
    save(store, 5)
    save(store, 7)
    damage(tmp_path / "7")
    recorder = training.Recorder()
    abstract = abstract_state(training.program(), 0, data_mesh(jax.devices()[:1]))
    restored = restore_newest([tmp_path], abstract, recorder.faulted)
    assert restored is not None
    assert state_digest(restored.state) == state_digest(state(5))
    (fault,) = recorder.faults
    assert (fault.fault_class, fault.step) == (FaultClass.CHECKPOINT_CORRUPT, 7)
    assert fault.reason == "digest_mismatch"
    assert problem in fault.message
    assert fault.suggestion == "the next older one is used"
    (kept,) = checkpoint_damage.damaged(tmp_path)
    assert (kept.step, kept.path) == (7, tmp_path / "7.damaged")
    assert kept.damage.reason == "digest_mismatch"
    assert problem in kept.damage.problem
    assert kept.damage.found_at


def test_no_flipped_bit_is_ever_loaded() -> None:
    """One at a time, anywhere: the older checkpoint is restored, and the file is named."""
    tally = flips.campaign(seed=6, flips=FLIPS, numbers=1 << 19)
    assert tally.violations == []
    assert tally.detected == sum(tally.files.values()) == FLIPS
    assert MANIFEST in tally.files


def test_what_is_committed_only_is_not_the_newest_but_can_be_named(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a save leaves it that is killed before its manifest, or Orbax by itself."""
    store = stores(tmp_path)
    save(store, 5)
    save(store, 7)
    (tmp_path / "7" / MANIFEST).unlink()
    restored = restore(tmp_path)
    assert restored is not None
    assert restored.checkpoint.step == 5
    assert f"checkpoint {tmp_path / '7'} is passed over: it has no {MANIFEST}" in caplog.text
    named = restore(tmp_path / "7")
    assert named is not None
    assert state_digest(named.state) == state_digest(state(7))
    assert "it is restored unverified, as it was named itself" in caplog.text
    shutil.rmtree(tmp_path / "5")
    assert restore(tmp_path) is None
    assert files.is_committed(tmp_path / "7")


def test_a_manifest_holds_after_orbax_has_read_the_checkpoint(
    stores: Stores, tmp_path: Path
) -> None:
    save(stores(tmp_path), 5)
    with ocp.CheckpointManager(tmp_path) as manager:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        loaded = manager.restore(5, args=args)
    np.testing.assert_array_equal(loaded["state"]["params"]["a"], state(5).params["a"])
    checkpoint_manifest.verify(tmp_path / "5", from_disk=True)


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1)])
def test_a_state_goes_on_with_another_number_of_devices(
    stores: Stores, tmp_path: Path, before: int, after: int
) -> None:
    saved = jax.device_put(state(5), replicated(data_mesh(jax.devices()[:before])))
    store = stores(tmp_path)
    store.save(5, saved, meta(6))
    assert store.drain(WAIT_S)
    mesh = data_mesh(jax.devices()[:after])
    abstract = abstract_state(training.program(), 0, mesh)
    restored = restore_newest([tmp_path], abstract, training.Recorder().faulted)
    assert restored is not None
    assert state_digest(restored.state) == state_digest(saved)
    for leaf in jax.tree.leaves(restored.state):
        assert leaf.devices() == set(jax.devices()[:after])


def test_a_new_leaf_of_the_optimizer_is_refused_and_nothing_is_loaded(
    stores: Stores, tmp_path: Path
) -> None:
    save(stores(tmp_path), 5)
    grown = abstract_state(training.program(), 0, data_mesh(jax.devices()[:1]))
    grown = TrainState(
        params=grown.params,
        opt_state=(*grown.opt_state, {"extra": grown.step}),
        step=grown.step,
        rng=grown.rng,
    )
    recorder = training.Recorder()
    with pytest.raises(CheckpointMismatchError, match=r"opt_state/[0-9]+/extra"):
        restore_newest([tmp_path], grown, recorder.faulted)
    assert recorder.faults == []
    assert files.is_durable(tmp_path / "5")


def test_where_a_run_stood_is_kept_with_what_was_asked_for_and_measured(
    stores: Stores, tmp_path: Path
) -> None:
    whole = replace(
        meta(6),
        losses=(0.5, 0.25),
        data={"next_index": 24},
        metrics={"accuracy": 0.1 + 0.2, "gone": float("inf")},
        evaluation={"accuracy": 0.75},
        specification={"entry": "lm:build", "args": {"width": 128}},
        made_by=made_by(jax.devices()[:2]),
    )
    store = stores(tmp_path)
    store.save(5, state(5), whole, ())
    assert store.drain(WAIT_S)
    held = read_meta(tmp_path / "5")
    assert held == whole
    assert held.measured("loss") == whole.loss
    assert held.measured("accuracy") == 0.75
    assert held.measured("gone") == float("inf")
    assert held.measured("absent") is None
    assert held.made_by["mesh"] == {"data": 2}
    for name in ("python", "jax", "optax", "orbax-checkpoint", "grain", "device_kind", "cpus"):
        assert held.made_by[name]
    # Any JSON reader can read it.
    json.loads((tmp_path / "5" / "meta" / "metadata").read_text(), parse_constant=pytest.fail)


def test_a_checkpoint_of_another_step_under_a_step_s_name_is_damaged(
    stores: Stores, tmp_path: Path
) -> None:
    save(stores(tmp_path), 5)
    (tmp_path / "5").rename(tmp_path / "9")
    with pytest.raises(CheckpointsDamagedError, match="manifest of step 5, expected 9"):
        restore(tmp_path)
