"""What the guard costs, how often a run traces, how often a step evaluates the loss."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from bench import figures as f
from bench.loops import ByHand, SameStep
from bench.models import Model
from trainerd.actors import Plan, run_loop


def cost(model: Model, *, pairs: int, steps: int) -> list[f.Figure]:
    """Time a step with the guard, against the same arithmetic by hand without one."""
    slots = model.global_batch // model.microbatch
    taken = f.interleave(
        {
            "guarded": SameStep(model, slots=slots, fixed=True),
            "bare": ByHand(model, slots=slots, fixed=True),
        },
        pairs=pairs,
        steps=steps,
    )
    return [
        f.figure(
            f"time a step with the guard, {model.name}",
            "no guard, by hand",
            f.ratios(taken["guarded"], taken["bare"]),
            unit="ratio",
            bound=f.at_most(1.02) if model.name == "transformer" else None,
        )
    ]


def counts(model: Model) -> list[f.Figure]:
    """Traces of a run, and evaluations of the loss an update, on one device."""
    steps, slots = 5, model.global_batch // model.microbatch
    traces: list[int] = []
    evaluations: list[int] = []

    def counted(params: Any, batch: Any, key: jax.Array) -> Any:
        traces.append(1)
        jax.debug.callback(lambda _: evaluations.append(1), key)
        return model.program.loss(params, batch, key)

    with tempfile.TemporaryDirectory() as folder:
        run_loop(
            replace(model.program, loss=counted, evaluate=None),
            Plan(steps=steps, global_batch=model.global_batch, microbatch=model.microbatch),
            checkpoint_directory=Path(folder) / "checkpoints",
        )
        jax.effects_barrier()
    return [
        f.exact(f"traces a run, {model.name}", "", len(traces), bound=f.exactly(1)),
        f.exact(
            f"evaluations of the loss an update, {slots} slots on 1 device, {model.name}",
            "",
            len(evaluations) / steps,
            bound=f.exactly(slots),
        ),
    ]
