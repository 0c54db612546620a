"""What a NaN batch costs: windows of batches that are all NaN against windows that are not."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.figures import Figure, at_most, figure
from bench.library import NEVER
from bench.models import Model
from bench.windows import Turns
from trainerd.actors import CheckpointSettings, Engine, Plan
from trainerd.actors.reports import Verdict
from trainerd.actors.rules import Rule

WINDOW = 50
ALWAYS = Rule(action=Verdict.SKIP, limit=10**9, window_s=1.0)


class Spoilt:
    """A source whose floating-point examples are NaN while `on`."""

    def __init__(self, source: Any) -> None:
        self._source, self.on = source, False

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        example: dict[str, np.ndarray] = self._source[index]
        if not self.on:
            return example
        return {name: np.full_like(leaf, np.nan) for name, leaf in example.items()}


def figures(model: Model, *, pairs: int) -> list[Figure]:
    """Time a skipped batch takes, beyond its own step, in steps; its report is part of it."""
    source = Spoilt(model.program.data)
    taken: dict[bool, list[float]] = {False: [], True: []}

    def turn(took_s: float) -> bool:
        taken[source.on].append(took_s)
        source.on = not source.on
        return len(taken[True]) <= pairs

    plan = Plan(
        steps=NEVER,
        global_batch=model.global_batch,
        microbatch=model.microbatch,
        non_finite_step=ALWAYS,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine(
            callbacks=(Turns(window=WINDOW, pause=model.pause, turn=turn),),
            callback_errors="raise",
            checkpoint=CheckpointSettings(directory=Path(folder), every_steps=NEVER),
        ) as engine,
    ):
        engine.fit_program(replace(model.program, evaluate=None, data=source), plan)
        skipped = engine.result.skipped_batches
    if skipped < pairs * WINDOW:
        raise RuntimeError(f"only {skipped} batches were skipped: this measured something else")
    # The first pair warms.
    lost = [
        (bad - good) / good for good, bad in zip(taken[False][1:], taken[True][1:], strict=False)
    ]
    return [
        figure(
            f"time lost by a NaN batch beyond its own step, {model.name}",
            "a step",
            lost,
            unit="steps",
            bound=at_most(1.0),
        )
    ]
