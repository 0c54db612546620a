"""`python -m fakes.saving DIRECTORY CACHE STEPS PACE_S`: a run that saves nearly all the time.

Says `restored STEP SOURCE`, `saving STEP` where a save begins, `saved STEP` once it is durable and
told, and `ended DIGEST`; whoever listens kills it meanwhile.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import jax

from fakes import training
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.plan import Plan
from trainerd.actors.program_loop import run_loop
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import SaveRecord, StepRecord

EVERY_STEPS = 4


def train(directory: Path, cache: Path, steps: int, *, pace_s: float) -> str:
    """Train to the end, saying what happens; return the digest of the last state."""

    class Told(training.Recorder):
        def restored(self, step: int, batch: int, source: str) -> None:
            say("restored", step, source)

        def saved(self, record: SaveRecord) -> None:
            say("saved", record.step)

        def stepped(self, record: StepRecord) -> None:
            # A checkpoint is being made most of the time, and the run outlasts what befalls it.
            time.sleep(pace_s)

    result = run_loop(
        training.program(),
        Plan(steps=steps, global_batch=12, microbatch=3, checkpoint_every_steps=EVERY_STEPS),
        checkpoint_directory=directory,
        reporter=Told(),
        devices=jax.devices()[:1],
        recovery=Recovery(executable_directory=cache),
    )
    assert result.durable
    return result.state_digest


def say(*words: object) -> None:
    print(*words, flush=True)


def main(directory: str, cache: str, steps: str, pace_s: str) -> None:
    """Train, and tell where each save begins."""
    begin = CheckpointStore.save

    def told(self: CheckpointStore, step: int, *args: Any, **named: Any) -> None:
        say("saving", step)
        begin(self, step, *args, **named)

    CheckpointStore.save = told  # type: ignore[method-assign]
    say("ended", train(Path(directory), Path(cache), int(steps), pace_s=float(pace_s)))


if __name__ == "__main__":
    main(*sys.argv[1:])
