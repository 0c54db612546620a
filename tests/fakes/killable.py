"""`python -m fakes.killable DIRECTORY DATA`: a run that tells its steps, for a test to kill."""

from __future__ import annotations

import sys
from pathlib import Path

import jax

from fakes import training
from trainerd.actors.plan import Plan
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import Result, StepRecord

STEPS = 60
GLOBAL_BATCH = 12
DURABLE_AFTER = 7
"""Steps of a process, by the end of which one of its checkpoints is durable."""


def train(directory: Path, kind: str, recorder: training.Recorder) -> Result:
    """Run to the end over a sequence or an iterator, with a slot that is masked in each epoch."""
    sequence = training.Data(spoil={9: "nan"})
    length = (STEPS + 2) * GLOBAL_BATCH
    data = {
        "sequence": sequence,
        "iterator": training.Stream(sequence[index % len(sequence)] for index in range(length)),
    }
    return run_loop(
        training.program(data=data[kind]),
        Plan(steps=STEPS, global_batch=GLOBAL_BATCH, microbatch=3, checkpoint_every_steps=4),
        checkpoint_directory=directory,
        reporter=recorder,
        devices=jax.devices()[:1],
    )


def main(directory: str, kind: str) -> None:
    """Train, saying each step; a checkpoint is durable before the seventh of them is said."""

    def on_step(record: StepRecord) -> None:
        if len(recorder.steps) == DURABLE_AFTER:
            recorder.wait_for("saved")
        print("step", record.step, flush=True)

    recorder = training.Recorder(on_step=on_step)
    train(Path(directory), kind, recorder)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
