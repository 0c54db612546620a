"""A save that failed is made up for before the next one is due, and training does not wait."""

from __future__ import annotations

import errno
from pathlib import Path

import jax
import pytest

from fakes import training
from trainerd.actors import checkpoint_files as files
from trainerd.actors.plan import Plan
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import FaultClass, FinishReason, StepRecord

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
