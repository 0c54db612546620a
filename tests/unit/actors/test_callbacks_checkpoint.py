"""Saving the model while it trains: when, where to, and what becomes of a save that fails."""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from trainerd.actors.callbacks import (
    CallbackRunner,
    CallbackSignal,
    ModelCheckpoint,
    SaveDone,
    SaveError,
    StateOwner,
)
from trainerd.actors.callbacks.path_template import PathTemplate
from trainerd.actors.reports import Fault, FaultClass, Phase

WAIT_S = 30.0


class Saver:
    """Commits at once, or fails as `error` says, or keeps `done` until told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.raises = False
        self.holds = False
        self.paths: list[Path] = []
        self.held: list[SaveDone] = []
        self.faults: list[Fault] = []

    def save(self, path: Path, done: SaveDone) -> None:
        self.paths.append(path)
        if self.holds:
            self.held.append(done)
        elif self.error is not None and self.raises:
            raise self.error
        else:
            done(self.error)

    def capture(self) -> object:
        raise AssertionError("nothing is captured")

    def restore(self, captured: object) -> None:
        raise AssertionError("nothing is restored")

    def faulted(self, fault: Fault) -> None:
        self.faults.append(fault)

    @property
    def names(self) -> list[str]:
        return [str(path) for path in self.paths]


Metrics = Mapping[str, float]


def epochs(checkpoint: ModelCheckpoint, *values: Metrics) -> list[CallbackSignal]:
    """End an epoch with each of `values`."""
    owner = StateOwner()
    runner = CallbackRunner([checkpoint], on_error="raise")
    signals = []
    with runner.session(owner):
        for epoch, metrics in enumerate(values):
            owner.update(epoch=epoch, step=10 * (epoch + 1), metrics=metrics)
            signals.append(runner.epoch_end(owner))
    return signals


def test_o08_it_saves_every_nth_epoch() -> None:
    saver = Saver()
    checkpoint = ModelCheckpoint("m/{epoch}", every=2, saver=saver)
    epochs(checkpoint, *[{}] * 5)
    assert saver.names == ["m/1", "m/3"]
    assert (checkpoint.save_count, checkpoint.error_count, checkpoint.last_error) == (2, 0, None)


def test_o08_it_saves_every_nth_step_and_lets_the_loop_know_before() -> None:
    saver = Saver()
    checkpoint = ModelCheckpoint("m/{step}", every=3, unit="step", saver=saver)
    owner = StateOwner()
    runner = CallbackRunner([checkpoint], on_error="raise")
    with runner.session(owner):
        for step in (0, 1, 2, 3, 3, 4, 5, 6):
            owner.update(step=step)
            runner.step_end(owner)
            runner.epoch_end(owner)
    assert saver.names == ["m/3", "m/6"]
    assert [step for step in range(1, 7) if runner.needs_rest(step)] == [3, 6]


def test_o08_a_run_that_is_continued_does_not_save_where_it_begins() -> None:
    saver = Saver()
    checkpoint = ModelCheckpoint("m/{step}", every=3, unit="step", saver=saver)
    owner = StateOwner(step=3)
    runner = CallbackRunner([checkpoint], on_error="raise")
    with runner.session(owner):
        runner.step_end(owner)
    assert saver.names == []


@pytest.mark.parametrize(
    ("mode", "values", "saved"),
    [
        ("min", [3.0, 2.0, 2.0, 2.5, 1.0], [0, 1, 4]),
        ("max", [3.0, 2.0, 4.0, 4.0, 5.0], [0, 2, 4]),
        ("min", [math.nan, -math.inf, 2.0, math.inf, 1.0], [2, 4]),
    ],
)
def test_o08_only_the_best_are_saved_where_that_is_asked_for(mode, values, saved) -> None:
    saver = Saver()
    checkpoint = ModelCheckpoint(
        "m/{epoch}", monitor="val", mode=mode, save_best_only=True, saver=saver
    )
    epochs(checkpoint, *[{"val": value} for value in values])
    assert saver.names == [f"m/{epoch}" for epoch in saved]
    assert (checkpoint.best, str(checkpoint.best_path)) == (values[saved[-1]], saver.names[-1])
    assert checkpoint.error_count == 0


def test_o08_a_continued_run_need_not_lose_its_best() -> None:
    saver = Saver()
    checkpoint = ModelCheckpoint(
        "best", monitor="val", save_best_only=True, initial_best=2.0, saver=saver
    )
    epochs(checkpoint, {"val": 3.0}, {"val": 1.5})
    assert len(saver.names) == 1


def test_o08_without_best_only_everything_is_saved_and_the_best_is_still_known() -> None:
    saver = Saver()
    checkpoint = ModelCheckpoint("m/{epoch}", monitor="val", saver=saver)
    epochs(checkpoint, {"val": 3.0}, {"val": 1.0}, {"val": 2.0}, {})
    assert saver.names == ["m/0", "m/1", "m/2", "m/3"]
    assert (checkpoint.best, str(checkpoint.best_path)) == (1.0, "m/1")


def test_o08_the_loops_own_saver_is_used_unless_one_was_given() -> None:
    loops, own = Saver(), Saver()
    owner = StateOwner()
    callbacks = [ModelCheckpoint("loop"), ModelCheckpoint("own", saver=own)]
    runner = CallbackRunner(callbacks, on_error="raise", access=loops)
    with runner.session(owner):
        runner.epoch_end(owner)
    assert (loops.names, own.names) == (["loop"], ["own"])


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("m/{epoch}", "m/4"),
        ("{step:06d}", "000120"),
        ("{epoch}/{val_loss:.3f}-{step}-{val_loss:.1e}-{epoch:02d}", "4/0.123-120-1.2e-01-04"),
        ("{{{epoch}}}", "{4}"),
        ("{eval/acc:.0%} {learning_rate:g}", "50% 0.001"),
        ("{val_loss}", "0.12345"),
        ("latest", "latest"),
    ],
)
def test_o09_templates_are_filled_field_by_field(template, path) -> None:
    metrics = {"val_loss": 0.12345, "eval/acc": 0.5}
    filled = PathTemplate(template).fill(epoch=4, step=120, learning_rate=0.001, metrics=metrics)
    assert filled == Path(path)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "must be a path, got ''"),
        ("  ", "must be a path"),
        ("a\0b", "must be a path"),
        (7, "must be a path, got 7"),
        ("{}", "is a position"),
        ("{0}", "{0} is a position"),
        ("{a.b}", "{a.b} reaches into a value"),
        ("{a[0]}", "reaches into a value"),
        ("{epoch.__class__}", "reaches into a value"),
        ("{val loss}", "is not the name of a metric"),
        ("{epoch!r}", "conversion !r"),
        ("{epoch", "expected '}'"),
        ("epoch}", "Single '}'"),
        ("{epoch:.3f}", None),
        ("{val_loss:d}", "not one of a float"),
        ("{epoch:s}", "not one of an integer"),
        ("{val_loss:{epoch}}", "not one of a number"),
        ("{val_loss:/>9}", "not one of a number"),
    ],
)
def test_o09_a_bad_template_is_refused_at_construction(template, why) -> None:
    if why is None:
        ModelCheckpoint(template)
        return
    with pytest.raises(ValueError, match="path_template") as raised:
        ModelCheckpoint(template)
    assert why in str(raised.value)


def test_o09_a_metric_that_is_missing_when_it_is_needed_is_said_and_nothing_is_saved() -> None:
    saver = Saver()
    checkpoint = ModelCheckpoint("m/{epoch}-{val_loss:.3f}", saver=saver)
    assert epochs(checkpoint, {"loss": 1.0}, {"loss": 1.0, "val_loss": 2.0})
    assert saver.names == ["m/1-2.000"]
    assert (checkpoint.save_count, checkpoint.error_count) == (1, 1)
    error = checkpoint.last_error
    assert error is not None
    assert error.reason == "missing_metric"
    assert str(error) == (
        "the checkpoint of step 10 was not saved to m/{epoch}-{val_loss:.3f}: "
        'there is no metric "val_loss"; there are loss'
    )


def test_o09_best_only_without_its_metric_is_a_failure_and_not_silence() -> None:
    saver = Saver()
    checkpoint = ModelCheckpoint("m", monitor="val_los", save_best_only=True, saver=saver)
    epochs(checkpoint, {"val_loss": 1.0})
    assert (saver.names, checkpoint.error_count) == ([], 1)
    assert 'no metric "val_los"' in str(checkpoint.last_error)


@pytest.mark.parametrize("raises", [True, False], ids=["raised", "reported later"])
def test_o10_a_failed_save_is_counted_said_and_training_goes_on(raises) -> None:
    saver = Saver(OSError(errno.ENOSPC, "No space left on device", "m/0"))
    saver.raises = raises
    checkpoint = ModelCheckpoint("m/{epoch}", saver=saver)
    with structlog.testing.capture_logs() as logs:
        signals = epochs(checkpoint, {}, {})
    assert signals == [CallbackSignal.CONTINUE] * 2
    assert (checkpoint.save_count, checkpoint.error_count) == (0, 2)
    assert [log["event"] for log in logs] == ["checkpoint not saved"] * 2
    assert logs[0]["path"] == "m/0"
    assert "No space left on device" in logs[0]["error"]
    assert [log["count"] for log in logs] == [1, 2]
    assert checkpoint.last_error is not None
    assert checkpoint.last_error.path == "m/1"
    assert checkpoint.last_error.__cause__ is saver.error


CAUSES: list[tuple[Exception, str, str]] = [
    (OSError(errno.ENOENT, "x"), "not_found", "path not found"),
    (OSError(errno.ENOTDIR, "x"), "not_found", "path not found"),
    (OSError(errno.EACCES, "x"), "permission_denied", "permission denied"),
    (OSError(errno.EPERM, "x"), "permission_denied", "permission denied"),
    (OSError(errno.ENOSPC, "x"), "no_space", "no space left on the device"),
    (OSError(errno.EDQUOT, "x"), "no_space", "no space left on the device"),
    (OSError(errno.EROFS, "x"), "read_only", "read-only file system"),
    (OSError(errno.EIO, "x"), "io_error", "input/output error"),
    (ValueError("leaf"), "serialization", "the state cannot be written"),
    (RuntimeError("x"), "unknown", "it failed"),
]


@pytest.mark.parametrize(("cause", "reason", "words"), CAUSES, ids=str)
def test_o11_each_cause_has_its_own_error_and_message(cause, reason, words) -> None:
    checkpoint = ModelCheckpoint("m", saver=Saver(cause))
    epochs(checkpoint, {})
    error = checkpoint.last_error
    assert isinstance(error, SaveError)
    assert error.reason == reason
    assert error.message == (
        f"the checkpoint of step 10 was not saved to m: {words} ({type(cause).__name__}: {cause})"
    )


def test_o11_the_messages_are_distinct() -> None:
    words = {reason: words for _, reason, words in CAUSES}
    assert len(set(words.values())) == len(words) == 7


def test_o11_an_os_error_deep_in_the_chain_is_found() -> None:
    outer = RuntimeError("array write failed")
    outer.__cause__ = OSError(errno.EROFS, "Read-only file system")
    checkpoint = ModelCheckpoint("m", saver=Saver(outer))
    epochs(checkpoint, {})
    assert checkpoint.last_error is not None
    assert checkpoint.last_error.reason == "read_only"


def test_x02_only_committed_saves_are_counted() -> None:
    saver = Saver()
    saver.holds = True
    checkpoint = ModelCheckpoint("m/{epoch}", saver=saver)
    owner = StateOwner()
    checkpoint.on_epoch_end(owner.state)
    assert (len(saver.paths), checkpoint.save_count) == (1, 0)
    saver.held[0](None)
    assert checkpoint.save_count == 1
    checkpoint.on_epoch_end(owner.state)
    saver.held[1](OSError(errno.EIO, "x"))
    assert (len(saver.paths), checkpoint.save_count, checkpoint.error_count) == (2, 1, 1)


def test_x02_only_the_first_answer_of_a_save_counts() -> None:
    saver = Saver()
    saver.holds = True
    checkpoint = ModelCheckpoint("m", saver=saver)
    checkpoint.on_epoch_end(StateOwner().state)
    for answer in (None, None, OSError("late")):
        saver.held[0](answer)
    assert (checkpoint.save_count, checkpoint.error_count) == (1, 0)


def test_x05_the_best_value_changes_only_with_the_commit() -> None:
    saver = Saver()
    saver.holds = True
    checkpoint = ModelCheckpoint("m/{val}", monitor="val", save_best_only=True, saver=saver)
    owner = StateOwner()
    owner.update(metrics={"val": 2.0})
    checkpoint.on_epoch_end(owner.state)
    assert (checkpoint.best, checkpoint.best_path) == (math.inf, None)
    saver.held[0](OSError(errno.ENOSPC, "full"))
    assert (checkpoint.best, checkpoint.best_path) == (math.inf, None)
    owner.update(metrics={"val": 3.0})
    checkpoint.on_epoch_end(owner.state)
    saver.held[1](None)
    assert (checkpoint.best, checkpoint.best_path) == (3.0, Path("m/3.0"))


def test_x06_a_failed_save_is_a_fault_and_a_metric() -> None:
    saver = Saver(OSError(errno.ENOSPC, "full"))
    owner = StateOwner()
    runner = CallbackRunner([ModelCheckpoint("m")], on_error="raise", access=saver)
    with runner.session(owner):
        for epoch in range(2):
            owner.update(epoch=epoch, step=5, metrics={})
            runner.epoch_end(owner)
        assert dict(owner.state.metrics) == {"checkpoint/save_errors": 2.0}
    fault = saver.faults[0]
    assert len(saver.faults) == 2
    assert fault.fault_class is FaultClass.CHECKPOINT_SAVE_FAILED
    assert (fault.step, fault.phase, fault.reason) == (5, Phase.SAVE, "no_space")
    assert "no space left on the device" in fault.message


def test_x06_after_a_limit_of_failures_in_a_row_it_stops_the_run_if_asked() -> None:
    saver = Saver()
    checkpoint = ModelCheckpoint("m", stop_after_errors=2, saver=saver)
    owner = StateOwner()
    signals = []
    for error in (OSError("a"), None, OSError("b"), OSError("c")):
        saver.error = error
        signals.append(checkpoint.on_epoch_end(owner.state).name)
    assert signals == ["CONTINUE", "CONTINUE", "CONTINUE", "STOP"]


def test_x06_with_nothing_to_save_with_every_save_is_a_failure_that_says_what_to_do() -> None:
    checkpoint = ModelCheckpoint("m")
    epochs(checkpoint, {})
    assert checkpoint.error_count == 1
    assert "ModelCheckpoint(saver=OrbaxSaver(…))" in str(checkpoint.last_error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": 0}, "every must be an integer ≥ 1, got 0"),
        ({"every": -3}, "every must be an integer ≥ 1, got -3"),
        ({"every": 0.5}, "every must be an integer ≥ 1, got 0.5"),
        ({"stop_after_errors": 0}, "stop_after_errors must be an integer ≥ 1, got 0"),
        ({"wait_s": 0}, "wait_s must be > 0, got 0"),
        ({"wait_s": math.nan}, "wait_s must be > 0, got nan"),
        ({"mode": "auto"}, 'mode must be "min" or "max", got \'auto\''),
        ({"unit": "batch"}, 'unit must be "epoch" or "step", got \'batch\''),
        ({"monitor": ""}, "monitor must name a metric, got ''"),
        ({"save_best_only": True}, "save_best_only needs a metric to judge by: give monitor"),
    ],
)
def test_x14_a_frequency_of_nothing_and_other_impossible_arguments_are_refused(
    change, message
) -> None:
    with pytest.raises(ValueError, match=message):
        ModelCheckpoint("m", **change)


class Background:
    """A saver whose saves end in a thread, once `let` is set."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.begun = threading.Semaphore(0)
        self.committed: list[str] = []

    def save(self, path: Path, done: SaveDone) -> None:
        self.begun.release()

        def finish() -> None:
            error = None if self.let.wait(WAIT_S) else TimeoutError("the test hangs")
            self.committed.append(str(path))
            done(error)

        threading.Thread(target=finish).start()


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_a_save_in_the_background_does_not_hold_up_training() -> None:
    saver = Background()
    checkpoint = ModelCheckpoint("m/{epoch}", saver=saver)
    assert checkpoint.on_epoch_end(StateOwner().state) is CallbackSignal.CONTINUE
    assert (checkpoint.save_count, saver.committed) == (0, [])
    saver.let.set()
    checkpoint.on_train_end(StateOwner().state)
    assert (checkpoint.save_count, saver.committed) == (1, ["m/0"])


def test_a_save_that_falls_due_while_another_is_in_flight_waits_and_is_made() -> None:
    saver = Background()
    checkpoint = ModelCheckpoint("m/{epoch}", saver=saver)
    owner = StateOwner()
    checkpoint.on_epoch_end(owner.state)
    assert saver.begun.acquire(timeout=WAIT_S)
    owner.update(epoch=1)
    second = in_thread(lambda: checkpoint.on_epoch_end(owner.state))
    assert saver.committed == []
    saver.let.set()
    second.join(WAIT_S)
    assert not second.is_alive()
    checkpoint.on_train_end(owner.state)
    assert saver.committed == ["m/0", "m/1"]
    assert (checkpoint.save_count, checkpoint.error_count) == (2, 0)


def test_a_save_that_never_ends_is_a_failure_and_is_waited_for_once() -> None:
    saver = Saver()
    saver.holds = True
    checkpoint = ModelCheckpoint("m/{epoch}", wait_s=0.01, saver=saver)
    owner = StateOwner()
    for epoch in range(3):
        owner.update(epoch=epoch, step=epoch)
        checkpoint.on_epoch_end(owner.state)
    assert saver.names == ["m/0"]
    # One for the save that hangs, one for each that could not begin.
    assert checkpoint.error_count == 3
    assert checkpoint.last_error is not None
    assert (checkpoint.last_error.reason, checkpoint.last_error.path) == ("timeout", "m/2")
    saver.held[0](None)
    assert checkpoint.save_count == 1
    checkpoint.on_epoch_end(owner.state)
    assert saver.names == ["m/0", "m/2"]


def test_an_interrupt_during_a_save_does_not_make_the_end_wait_for_it() -> None:
    class Interrupted(Saver):
        def save(self, path: Path, done: SaveDone) -> None:
            raise KeyboardInterrupt

    checkpoint = ModelCheckpoint("m", wait_s=2.0, saver=Interrupted())
    with pytest.raises(KeyboardInterrupt):
        checkpoint.on_epoch_end(StateOwner().state)
    checkpoint.on_train_end(StateOwner().state)
    assert (checkpoint.save_count, checkpoint.error_count) == (0, 0)


def test_a_path_that_cannot_be_made_is_not_found(tmp_path: Path) -> None:
    from trainerd.actors.callbacks import OrbaxSaver

    (tmp_path / "file").write_text("in the way")

    def state() -> Any:
        raise AssertionError("not asked for where nothing can be written")

    for path in ("file/m", "file/deeper/m"):
        checkpoint = ModelCheckpoint(str(tmp_path / path), saver=OrbaxSaver(state))
        epochs(checkpoint, {})
        assert checkpoint.last_error is not None
        assert checkpoint.last_error.reason == "not_found"
    assert os.listdir(tmp_path) == ["file"]
