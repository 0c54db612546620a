"""`python -m fakes.snapping DIRECTORY`: a run that tells its steps and snapshots, to be killed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

import jax
import pytest

from fakes import training
from trainerd.actors import snapshot_interval
from trainerd.actors.plan import Plan
from trainerd.actors.program_loop import run_loop
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import Result, StepRecord, Verdict
from trainerd.actors.rules import Rule

STEPS = 400
EVERY = 5


def train(directory: Path, recorder: training.Recorder, print_to: TextIO | None) -> Result:
    """Run to the end, with a slot that is masked in each epoch and no checkpoint on the way."""
    (directory / "memory").mkdir(mode=0o700, parents=True, exist_ok=True)

    def say(word: str, step: int) -> None:
        if print_to is not None:
            print(word, step, file=print_to, flush=True)

    def on_step(record: StepRecord) -> None:
        if not recorder.all("stepped")[1:]:
            say("restored", recorder.all("restored")[0][0])
        say("step", record.step)

    recorder.on_step = on_step
    with pytest.MonkeyPatch.context() as patch:
        # However long steps take on this machine.
        patch.setattr(snapshot_interval, "every_steps", lambda **_: EVERY)
        return run_loop(
            training.program(
                optimizer=training.optimizer(),
                data=training.Data(spoil={9: "nan"}),
            ),
            Plan(
                steps=STEPS,
                global_batch=12,
                microbatch=3,
                checkpoint_every_steps=10 * STEPS,
                non_finite_microbatch=Rule(action=Verdict.MASK, limit=STEPS, window_s=600.0),
            ),
            checkpoint_directory=directory / "checkpoints",
            reporter=recorder,
            devices=jax.devices()[:1],
            recovery=Recovery(
                snapshot_directory=directory / "memory",
                snapshot_bytes=1 << 30,
                # Of all runs beside this one.
                executable_directory=directory.with_name("executables"),
                told=lambda step, every: say("whole", step) if step > 0 and every else None,
            ),
        )


if __name__ == "__main__":
    train(Path(sys.argv[1]), training.Recorder(), print_to=sys.stdout)
