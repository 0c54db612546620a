"""A save that failed is made up for before the next one is due, and training does not wait."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import jax
import pytest

from fakes import training
from trainerd.actors import checkpoint_files as files
from trainerd.actors.plan import Plan, Rule
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import Controls, Fault, FaultClass, FinishReason, StepRecord, Verdict

pytestmark = pytest.mark.usefixtures("compiled_once")


def test_a_failed_periodic_save_is_made_up_for_at_a_later_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    tries = []

    def writable(directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        tries.append(now[0])
        if len(tries) < 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "make_writable", writable)

    def on_step(record: StepRecord) -> None:
        now[0] = float(record.step)

    recorder = training.Recorder(on_step=on_step)
    result = run_loop(
        training.program(),
        Plan(steps=14, global_batch=12, microbatch=3, checkpoint_every_steps=5),
        checkpoint_directory=tmp_path,
        reporter=recorder,
        clock=lambda: now[0],
        devices=jax.devices()[:1],
    )
    assert result.reason is FinishReason.COMPLETED
    assert result.durable
    # Due at step 5; a second later, which the boundary of step 7 sees first; not only at 10.
    assert tries[:2] == [5.0, 7.0]
    (fault,) = recorder.faults
    assert fault.fault_class is FaultClass.CHECKPOINT_SAVE_FAILED
    assert (fault.step, fault.reason) == (5, "no_space")
    assert recorder.all("saved")[0].step == 7


def test_an_exception_that_leaves_the_state_whole_does_not_cost_the_steps_since(
    tmp_path: Path,
) -> None:
    """The next process begins where this one ended, not at the checkpoint before."""
    spoilt = training.Data(spoil={7 * 12 + 1: ValueError("torn")})
    recorder = training.Recorder(verdict=lambda fault: Verdict.RESTART)
    plan = Plan(
        steps=14,
        global_batch=12,
        microbatch=3,
        checkpoint_every_steps=5,
        data_error=Rule(action=Verdict.SKIP, limit=0, window_s=600.0),
    )
    result = run_loop(
        training.program(data=spoilt),
        plan,
        checkpoint_directory=tmp_path,
        reporter=recorder,
        devices=jax.devices()[:1],
    )
    (fault,) = recorder.all("decide")
    assert fault.fault_class is FaultClass.DATA_ERROR
    assert (result.reason, result.step, result.durable_step) == (FinishReason.DECIDED, 7, 7)


def test_a_last_state_that_is_durable_late_completes_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, for longer than there is time, until the run was asked about."""
    controls, full, waited_s = Controls(), [True], [0.0]
    writable = files.make_writable

    def refuse(directory: Path) -> None:
        if full[0]:
            waited_s[0] += 100.0
            raise OSError(errno.ENOSPC, "No space left on device", str(directory))
        writable(directory)

    def mended(fault: Fault) -> Verdict:
        full[0] = False
        return Verdict.CONTINUE

    monkeypatch.setattr(files, "make_writable", refuse)
    recorder = training.Recorder(verdict=mended)
    result = run_loop(
        training.program(),
        Plan(
            steps=4,
            global_batch=12,
            microbatch=3,
            final_save_timeout_s=90.0,
            final_save_hold_s=60.0,
        ),
        checkpoint_directory=tmp_path,
        reporter=recorder,
        controls=controls,
        devices=jax.devices()[:1],
        clock=lambda: time.monotonic() + waited_s[0],
    )
    (fault,) = recorder.all("decide")
    assert (fault.fault_class, fault.reason) == (FaultClass.CHECKPOINT_SAVE_FAILED, "no_space")
    assert (result.reason, result.durable) == (FinishReason.COMPLETED, True)
    assert {each.reason for each in recorder.faults} == {"no_space"}
