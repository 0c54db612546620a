"""Checkpoints of `Engine.fit`: exact resumption, honest failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from structlog.testing import capture_logs

from fakes import fitting, training
from trainerd.actors import (
    CheckpointError,
    CheckpointSettings,
    DataError,
    EndReason,
    Engine,
    EngineError,
    Plan,
    TrainState,
    checkpoint_manifest,
    create_gradient_accumulation_step_fn,
)
from trainerd.actors.digest import state_digest

pytestmark = pytest.mark.usefixtures("compiled_once")

STEP = create_gradient_accumulation_step_fn(fitting.loss)


class Stream:
    """Batches one after another, anew for each pass; remembers what was pulled."""

    def __init__(self, count: int) -> None:
        self.count, self.pulled = count, []

    def __iter__(self) -> Iterator[Any]:
        for index in range(self.count):
            self.pulled.append(index)
            yield fitting.batch(index)


class Indexed(Stream):
    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        self.pulled.append(index)
        return fitting.batch(index)

    __iter__ = None  # type: ignore[assignment]


def engine(directory: Path, **settings: Any) -> Engine:
    kept = {"directory": directory, "every_steps": 2, **settings.pop("kept", {})}
    return Engine(checkpoint=CheckpointSettings(**kept), **settings)


def steps_in(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.iterdir())


@pytest.mark.parametrize("kind", [Stream, Indexed])
@pytest.mark.parametrize(("first", "epochs"), [(3, 1), (4, 2), (5, 2), (6, 2)])
def test_w17_a_resumed_run_goes_on_with_exactly_the_next_batch(
    tmp_path: Path, kind: Any, first: int, epochs: int
) -> None:
    """Over passes of 5 batches, also where one pass ends."""
    straight = Engine(epochs=epochs).fit(STEP, kind(5), state=fitting.state())
    one = engine(tmp_path, epochs=epochs)
    one.fit(STEP, kind(5), steps=first, state=fitting.state())
    assert one.result.checkpoint == str(tmp_path / str(first))
    assert one.result.durable

    data, again, seen = kind(5), None, fitting.Recording()
    again = engine(tmp_path, epochs=epochs, callbacks=[seen])
    final = again.fit(STEP, data, state=fitting.state(), resume_from=tmp_path)
    assert state_digest(final) == state_digest(straight)
    assert (again.result.steps, again.result.batches) == (5 * epochs, 5 * epochs)
    if kind is Indexed:
        assert data.pulled == [index % 5 for index in range(first, 5 * epochs)]
    assert next(s.epoch for hook, s in seen.heard if hook == "epoch_begin") == first // 5
    assert seen.hooks.count("step_begin") == 5 * epochs - first


def test_w17_a_skipped_batch_is_not_fed_again(tmp_path: Path) -> None:
    data = fitting.batches(6, b1=np.nan)
    straight = Engine().fit(STEP, data, state=fitting.state())
    engine(tmp_path).fit(STEP, data, steps=3, state=fitting.state())
    again = engine(tmp_path)
    final = again.fit(STEP, data, state=fitting.state(), resume_from=tmp_path / "3")
    assert state_digest(final) == state_digest(straight)
    assert (again.result.batches, again.result.skipped_batches) == (6, 1)


def test_w17_steps_are_those_of_the_whole_run(tmp_path: Path) -> None:
    engine(tmp_path).fit(STEP, Stream(9), steps=3, state=fitting.state())
    again = engine(tmp_path)
    final = again.fit(STEP, Stream(9), steps=5, state=fitting.state(), resume_from=tmp_path)
    assert (int(final.step), again.result.steps) == (5, 5)
    finished = engine(tmp_path)
    final = finished.fit(STEP, Stream(9), steps=5, state=fitting.state(), resume_from=tmp_path)
    assert (int(final.step), finished.result.reason) == (5, EndReason.STEPS_REACHED)


def test_x01_a_state_of_any_kind_is_saved_and_restored_exactly(tmp_path: Path) -> None:
    @jax.jit
    def step(state: Any, batch: Any) -> Any:
        key, draw = jax.random.split(state["key"])
        after = {**state, "w": state["w"] + batch * jax.random.normal(draw), "key": key}
        return after, {"loss": batch}

    state = {"w": jnp.zeros(2), "key": jax.random.key(3), "name": "mine", "few": jnp.bfloat16(1)}
    data = [1.0, 2.0, 3.0, 4.0]

    def plain(state: Any, batch: Any) -> Any:
        name = state.pop("name")
        after, metrics = step(state, batch)
        return {**after, "name": name}, metrics

    arrays = lambda state: {k: v for k, v in state.items() if k != "name"}  # noqa: E731
    straight = Engine().fit(plain, data, state=state)
    engine(tmp_path).fit(plain, data, steps=2, state=state)
    final = engine(tmp_path).fit(plain, data, state=state, resume_from=tmp_path)
    assert final["name"] == "mine"
    assert state_digest(arrays(final)) == state_digest(arrays(straight))


def test_what_was_restored_from_elsewhere_is_saved_at_home_at_once(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    engine(old).fit(STEP, Stream(9), steps=3, state=fitting.state())
    engine(new, kept={"every_steps": 100, "keep": 9}).fit(
        STEP, Stream(9), steps=5, state=fitting.state(), resume_from=old
    )
    assert steps_in(new) == [3, 5]


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_w10_where_there_is_nothing_to_resume_from_nothing_is_begun(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "empty").mkdir()
    data = Stream(3)
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        Engine().fit(STEP, data, state=fitting.state(), resume_from=tmp_path / place)
    assert data.pulled == []


def test_w21_another_state_than_the_checkpoint_s_is_refused_by_its_leaf(tmp_path: Path) -> None:
    engine(tmp_path).fit(STEP, Stream(2), state=fitting.state())
    other = TrainState.create({"w": jnp.zeros(7)}, fitting.OPTIMIZER)
    with pytest.raises(CheckpointError, match=r"params/w is float32\[4\] in the checkpoint"):
        Engine().fit(STEP, Stream(2), state=other, resume_from=tmp_path)


def test_a_new_run_does_not_mix_its_checkpoints_with_those_of_another(tmp_path: Path) -> None:
    engine(tmp_path).fit(STEP, Stream(4), state=fitting.state())
    with pytest.raises(CheckpointError, match=r"of step 4, this run begins at 0; .*resume_from="):
        engine(tmp_path).fit(STEP, Stream(4), state=fitting.state())


def test_w17_data_that_ends_before_the_checkpoint_is_refused(tmp_path: Path) -> None:
    engine(tmp_path).fit(STEP, Stream(4), state=fitting.state())
    with pytest.raises(DataError, match="ended after 2 batches, the checkpoint was made after 4"):
        Engine().fit(STEP, Stream(2), state=fitting.state(), resume_from=tmp_path)


def test_x06_a_run_whose_last_state_is_not_on_disk_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log = fitting.Log()
    blocked = engine(tmp_path / "file", loggers=[log], kept={"final_save_timeout_s": 0.2})
    with (
        capture_logs(),
        pytest.raises(CheckpointError, match="last state is not on disk") as raised,
    ):
        blocked.fit(STEP, Stream(5), state=fitting.state())
    assert "at step 5: step 5 was not saved to" in str(raised.value)
    assert "engine.state holds it" in raised.value.suggestion
    assert int(blocked.state.step) == 5
    assert blocked.result.errors["checkpoint_save_failed"] >= 3
    assert not blocked.result.durable
    assert {fields["class"] for _, fields in log.named("training/checkpoint_save_failed")} == {
        "checkpoint_save_failed"
    }


def test_x06_after_so_many_failed_saves_the_run_ends(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    limited = engine(tmp_path / "file", kept={"every_steps": 1, "max_failures": 2})
    with capture_logs(), pytest.raises(CheckpointError, match="saving was given up at step"):
        limited.fit(STEP, Stream(50), state=fitting.state())
    assert 2 <= limited.result.steps <= 5
    assert limited.result.reason is EndReason.FAILED


def test_x06_a_save_that_does_not_end_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not fail either: how long nothing has been durable is judged by the clock."""
    gate = threading.Event()
    real = checkpoint_manifest.write

    def slow(path: Path, **more: Any) -> Any:
        assert gate.wait(30.0)
        return real(path, **more)

    monkeypatch.setattr(checkpoint_manifest, "write", slow)
    kept = {"every_steps": 1, "max_age_s": 0.2, "final_save_timeout_s": 0.1}
    hanging = engine(tmp_path, kept=kept, epochs=None)
    try:
        with (
            capture_logs(),
            pytest.raises(CheckpointError, match=r"saving was given up at step .*: no durable"),
        ):
            hanging.fit(STEP, Stream(5), state=fitting.state(), steps=10**6)
    finally:
        gate.set()
    assert hanging.result.reason is EndReason.FAILED


def test_while_the_directory_fails_saves_go_to_the_fallback_and_both_are_resumed_from(
    tmp_path: Path,
) -> None:
    own, spare = tmp_path / "own", tmp_path / "spare"
    whole = engine(tmp_path / "whole").fit(STEP, Stream(8), state=fitting.state())
    own.write_text("in the way")
    both = {"fallback_directory": spare}
    with capture_logs():
        engine(own, kept=both).fit(STEP, Stream(8), state=fitting.state(), steps=4)
    assert steps_in(spare) == [2, 4]
    own.unlink()
    again = engine(own, kept=both)
    ended = again.fit(STEP, Stream(8), state=fitting.state(), steps=8, resume_from=own)
    assert state_digest(ended) == state_digest(whole)
    with pytest.raises(CheckpointError, match="spare holds a checkpoint of step"):
        engine(tmp_path / "new", kept=both).fit(STEP, Stream(8), state=fitting.state())


def test_what_is_kept_is_what_any_of_the_rules_wants(tmp_path: Path) -> None:
    """The settings mean what they mean in a run file."""
    kept = {
        "every_steps": 1,
        "keep": 1,
        "keep_every_steps": 4,
        "keep_best": 1,
        "best_metric": "loss",
        "best_mode": "highest",
    }
    log = fitting.Log()
    fitted = engine(tmp_path, kept=kept, loggers=[log])
    fitted.fit(STEP, Stream(9), state=fitting.state())
    stayed = steps_in(tmp_path)
    # A save that falls due during another one is left out.
    saved = [step for step, _ in log.named("training/checkpoint_saved")]
    assert stayed[-1] == saved[-1] == 9
    assert {step for step in saved if step % 4 == 0} <= set(stayed)
    assert len(stayed) <= 2 + sum(step % 4 == 0 for step in saved)


def test_saves_are_counted_and_logged(tmp_path: Path) -> None:
    log = fitting.Log()
    slow = engine(tmp_path, loggers=[log], kept={"every_steps": 100})
    slow.fit(STEP, Stream(3), state=fitting.state())
    assert slow.result.saves == 1
    assert [step for step, _ in log.named("training/checkpoint_saved")] == [3]


@pytest.mark.parametrize(
    ("given", "every_steps", "every_s", "auto"),
    [
        ({}, 50, 0.0, False),
        ({"every_s": 5.0}, 0, 5.0, False),
        ({"every_s": 5.0, "every_steps": 7}, 7, 5.0, False),
        ({"auto_interval": True}, 0, 0.0, True),
    ],
)
def test_when_to_save_is_said_as_in_a_run_file(
    given: Any, every_steps: int, every_s: float, auto: bool
) -> None:
    plan = Plan(steps=1, global_batch=1, **CheckpointSettings(directory="x", **given).in_plan())
    assert plan.checkpoint_every_steps == every_steps
    assert (plan.checkpoint_every_s, plan.checkpoint_auto) == (every_s, auto)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"every_steps": 0}, "checkpoint.every_steps must be ≥ 1, got 0"),
        ({"keep": 1.5}, "checkpoint.keep must be an integer, got 1.5"),
        ({"max_failures": 0}, "checkpoint.max_failures must be ≥ 1, got 0"),
        ({"final_save_timeout_s": 0.0}, "final_save_timeout_s must be > 0 and finite, got 0.0"),
        ({"keep_every_steps": 0}, "checkpoint.keep_every_steps must be ≥ 1, got 0"),
        ({"keep_best": -1}, "checkpoint.keep_best must be ≥ 1, got -1"),
        ({"every_s": 0}, "checkpoint.every_s must be > 0 and finite, got 0"),
        ({"max_age_s": float("inf")}, "checkpoint.max_age_s must be > 0 and finite, got inf"),
        ({"auto_interval": True, "every_s": 5}, "auto_interval cannot be given together with"),
        ({"auto_interval": True, "every_steps": 5}, "both say when to save; keep one"),
        ({"best_mode": "best", "keep_best": 1}, 'must be "lowest" or "highest", got .best.'),
        ({"best_metric": "val_loss"}, "nothing is kept by it; say how many"),
        ({"fallback_directory": "x"}, "is checkpoint.directory itself"),
    ],
)
def test_w32_x14_impossible_checkpoint_settings_are_refused(numbers: Any, expected: str) -> None:
    with pytest.raises(EngineError, match=expected):
        CheckpointSettings(directory="x", **numbers)


def test_a_program_is_fitted_saved_and_resumed_exactly(tmp_path: Path) -> None:
    numbers = {"global_batch": 12, "microbatch": 3}
    where = {"devices": jax.devices()[:1]}
    straight = Engine().fit_program(training.program(), Plan(steps=6, **numbers), **where)
    engine(tmp_path).fit_program(training.program(), Plan(steps=4, **numbers), **where)
    assert steps_in(tmp_path) == [2, 4]
    again = engine(tmp_path)
    final = again.fit_program(
        training.program(), Plan(steps=6, **numbers), resume_from=tmp_path, **where
    )
    assert state_digest(final) == state_digest(straight) == again.result.state_digest
    assert again.result.steps == 6
    assert int(final.apply_gradients(grads=final.params).step) == 7


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"init": lambda key: 1 / 0}, "could not be prepared: ZeroDivisionError"),
        ({"loss": lambda p, b, k: p["nope"]}, "could not be prepared: KeyError: 'nope'"),
    ],
)
def test_a_program_that_does_not_work_is_an_engine_error(changes: Any, expected: str) -> None:
    with capture_logs(), pytest.raises(EngineError, match=expected):
        Engine().fit_program(
            training.program(**changes), Plan(steps=2, global_batch=12), devices=jax.devices()[:1]
        )
