"""Real saves to a real disk, read back by Orbax alone."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fakes import training
from trainerd.actors.callbacks import CallbackRunner, ModelCheckpoint, OrbaxSaver, StateOwner
from trainerd.actors.checkpoint_tree import from_nested, to_nested
from trainerd.actors.digest import state_digest
from trainerd.actors.state import TrainState, initial_state

pytestmark = pytest.mark.usefixtures("compiled_once")

WAIT_S = 30.0


def state(step: int) -> TrainState:
    made = initial_state(training.program(), seed=step)
    return TrainState(
        params=made.params, opt_state=made.opt_state, step=jnp.int32(step), rng=made.rng
    )


def restored(path: Path, like: TrainState) -> TrainState:
    with ocp.StandardCheckpointer() as reader:
        return from_nested(reader.restore(path, to_nested(like)), like)


def saved(saver: OrbaxSaver, path: Path) -> Exception | None:
    """Save and wait; return what it ended with."""
    ended = threading.Event()
    outcome: list[Exception | None] = []

    def done(error: Exception | None) -> None:
        outcome.append(error)
        ended.set()

    saver.save(path, done)
    assert ended.wait(WAIT_S)
    return outcome[0]


def test_x01_a_save_is_real_and_the_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    live = [state(1)]
    checkpoint = ModelCheckpoint(
        str(tmp_path / "{epoch}-{val_loss:.2f}"),
        monitor="val_loss",
        saver=OrbaxSaver(lambda: live[0]),
    )
    owner = StateOwner()
    runner = CallbackRunner([checkpoint], on_error="raise")
    with runner.session(owner):
        for epoch in range(2):
            live[0] = state(epoch)
            owner.update(epoch=epoch, step=epoch, metrics={"val_loss": 1.0 - epoch})
            runner.epoch_end(owner)
    assert (checkpoint.save_count, checkpoint.error_count) == (2, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-1.00", "1-0.00"]
    assert checkpoint.best_path == tmp_path / "1-0.00"
    for epoch, name in enumerate(("0-1.00", "1-0.00")):
        assert state_digest(restored(tmp_path / name, state(9))) == state_digest(state(epoch))


def test_x01_any_pytree_of_arrays_can_be_saved_by_a_loop_of_ones_own(tmp_path: Path) -> None:
    tree = {"w": jnp.arange(6.0).reshape(2, 3), "n": np.asarray(4)}
    assert saved(OrbaxSaver(lambda: tree), tmp_path / "deep" / "m") is None
    with ocp.StandardCheckpointer() as reader:
        came: Any = reader.restore(tmp_path / "deep" / "m", tree)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), came, tree))


def test_x01_the_arrays_may_be_donated_once_save_has_returned(tmp_path: Path) -> None:
    tree = {"w": jnp.arange(4.0)}
    ended = threading.Event()
    OrbaxSaver(lambda: tree).save(tmp_path / "m", lambda error: ended.set())
    tree["w"].delete()
    assert ended.wait(WAIT_S)
    with ocp.StandardCheckpointer() as reader:
        came: Any = reader.restore(tmp_path / "m", {"w": jnp.zeros(4)})
    np.testing.assert_array_equal(came["w"], np.arange(4.0))


def test_x01_a_path_that_comes_again_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    live = {"w": jnp.zeros(3)}
    saver = OrbaxSaver(lambda: live)
    for value in (1.0, 2.0):
        live["w"] = jnp.full(3, value)
        assert saved(saver, tmp_path / "best") is None
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    with ocp.StandardCheckpointer() as reader:
        came: Any = reader.restore(tmp_path / "best", live)
    np.testing.assert_array_equal(came["w"], np.full(3, 2.0))


def test_x02_a_save_that_fails_is_no_commit_and_leaves_what_was_there(tmp_path: Path) -> None:
    live: dict[str, Any] = {"w": jnp.ones(3)}
    saver = OrbaxSaver(lambda: live)
    assert saved(saver, tmp_path / "best") is None
    checkpoint = ModelCheckpoint(str(tmp_path / "best"), saver=saver)
    live["w"] = object()
    owner = StateOwner()
    checkpoint.on_epoch_end(owner.state)
    checkpoint.on_train_end(owner.state)
    assert (checkpoint.save_count, checkpoint.error_count) == (0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    with ocp.StandardCheckpointer() as reader:
        came: Any = reader.restore(tmp_path / "best", {"w": jnp.zeros(3)})
    np.testing.assert_array_equal(came["w"], np.ones(3))


OUT_OF_SPACE = """
import resource, signal, sys
import jax.numpy as jnp, numpy as np
from trainerd.actors.callbacks import ModelCheckpoint, OrbaxSaver, StateOwner
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tree = {"w": jnp.asarray(np.random.default_rng(0).random(300_000))}
checkpoint = ModelCheckpoint(sys.argv[1], saver=OrbaxSaver(lambda: tree), wait_s=60.0)
state = StateOwner().state
checkpoint.on_epoch_end(state)
checkpoint.on_train_end(state)
assert checkpoint.save_count == 1, checkpoint.last_error
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
checkpoint.on_epoch_end(state)
checkpoint.on_train_end(state)
print(checkpoint.save_count, checkpoint.error_count, checkpoint.last_error.reason)
"""


def test_x02_a_write_that_fails_in_the_background_is_no_commit_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    script = [sys.executable, "-c", OUT_OF_SPACE, str(tmp_path / "m")]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].split()[:2] == ["1", "1"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    with ocp.StandardCheckpointer() as reader:
        came: Any = reader.restore(tmp_path / "m")
    assert came["w"].shape == (300_000,)


def test_a_file_in_the_way_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("mine")
    with pytest.raises(NotADirectoryError):
        OrbaxSaver(lambda: {"w": jnp.ones(3)}).save(tmp_path / "m", lambda error: None)
    assert (tmp_path / "m").read_text() == "mine"


@pytest.mark.parametrize("left", ["m.saving.orbax-checkpoint-tmp", "m.saving", "m.replaced"])
def test_what_an_earlier_save_left_half_done_is_removed(left, tmp_path: Path) -> None:
    for name in (left, "m", "m2.saving"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("left")
    assert saved(OrbaxSaver(lambda: {"w": jnp.ones(3)}), tmp_path / "m") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m2.saving"]
    assert not (tmp_path / "m" / "file").exists()
