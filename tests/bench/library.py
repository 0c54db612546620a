"""The library's whole loop against bare loops, in turns inside one process."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import jax

from bench.figures import Figure, at_least, at_most, differences, figure, ratios
from bench.loops import ByHand, Reader, SameStep
from bench.models import Model
from bench.windows import Turns
from trainerd.actors import (
    CheckpointSettings,
    ConsoleLogger,
    CsvLogger,
    EarlyStopping,
    Engine,
    JsonLinesLogger,
    LoggingCallback,
    Plan,
    TrainState,
    create_gradient_accumulation_step_fn,
)

NEVER = 10**9
Bare: TypeAlias = dict[str, Callable[[int], float]]
BY_HAND, SAME_STEP = "bare loop", "bare loop of the same step"


def figures(model: Model, *, pairs: int) -> list[Figure]:
    """How fast `model` trains under `Engine`, with loggers, callbacks and checkpoints on."""
    slots = model.global_batch // model.microbatch
    by_hand = ByHand(model, slots=slots)
    made = []
    for name, train, bare in (
        ("Engine.fit", _fit, {BY_HAND: by_hand}),
        (
            "Engine.fit_program",
            _fit_program,
            {BY_HAND: by_hand, SAME_STEP: SameStep(model, slots=slots)},
        ),
    ):
        ours, others = _in_turns(model, train, bare, pairs=pairs)
        for against, taken in others.items():
            made.append(_figure(model, name, against, ours, taken))
    return made


def _figure(
    model: Model, name: str, against: str, ours: list[float], others: list[float]
) -> Figure:
    if model.name == "transformer":
        return figure(
            f"step rate under {name}, transformer",
            against,
            ratios(others, ours),
            unit="ratio",
            bound=at_least(0.99) if against == BY_HAND else None,
        )
    # Against the same compiled step what is left is the host's time.
    return figure(
        f"extra time a step under {name}, MLP",
        against,
        differences(ours, others, scale=1e6),
        unit="µs",
        bound=at_most(60) if against == SAME_STEP else None,
    )


def _in_turns(
    model: Model, train: Callable[[Model, Engine], None], bare: Bare, *, pairs: int
) -> tuple[list[float], dict[str, list[float]]]:
    ours: list[float] = []
    others: dict[str, list[float]] = {name: [] for name in bare}
    for loop in bare.values():
        loop(model.pause)

    def turn(took_s: float) -> bool:
        ours.append(took_s)
        for name, loop in bare.items():
            loop(model.pause)
            others[name].append(loop(model.window))
        return len(ours) <= pairs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            (folder / "console.txt").open("w") as console,
            Engine(
                callbacks=(
                    LoggingCallback(keep=1000),
                    EarlyStopping("loss", patience=NEVER),
                    Turns(window=model.window, pause=model.pause, turn=turn),
                ),
                loggers=(
                    ConsoleLogger(console),
                    CsvLogger(folder / "metrics.csv"),
                    JsonLinesLogger(folder / "metrics.jsonl"),
                ),
                accumulate_steps=model.global_batch // model.microbatch,
                callback_errors="raise",
                checkpoint=CheckpointSettings(directory=folder / "checkpoints", every_steps=NEVER),
            ) as engine,
        ):
            train(model, engine)
    # The first pair warms.
    return ours[1:], {name: taken[1:] for name, taken in others.items()}


def _fit_program(model: Model, engine: Engine) -> None:
    plan = Plan(steps=NEVER, global_batch=model.global_batch, microbatch=model.microbatch)
    engine.fit_program(replace(model.program, evaluate=None), plan)


def _fit(model: Model, engine: Engine) -> None:
    program, slots = model.program, model.global_batch // model.microbatch
    key = jax.random.key(0)

    def loss(params: Any, batch: Any) -> Any:
        returned = program.loss(params, batch, key)
        return returned[0] if isinstance(returned, tuple) else returned

    read = Reader(model, slots, fixed=False)

    def batches() -> Iterator[dict[str, Any]]:
        for _ in itertools.count():
            batch = read()
            yield {
                "microbatches": [
                    {name: leaf[index] for name, leaf in batch.items()} for index in range(slots)
                ]
            }

    state = TrainState.create(program.init(key), program.optimizer)
    engine.fit(create_gradient_accumulation_step_fn(loss, slots), batches(), state=state)
