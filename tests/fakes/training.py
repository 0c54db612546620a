"""A small program, its data, and a reporter that remembers: what tests of the library train."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trainerd.actors.program import Program
from trainerd.actors.reports import (
    Fault,
    Judgement,
    Phase,
    RollbackRecord,
    SaveRecord,
    StepRecord,
    Verdict,
)
from trainerd.actors.snapshots import NAMES

EXAMPLES = 96
INPUTS = 5


class Data:
    """Random access to seeded examples. `spoil`: index -> what happens there."""

    def __init__(self, length: int = EXAMPLES, spoil: Mapping[int, Any] | None = None) -> None:
        generator = np.random.default_rng(7)
        self.x = generator.normal(size=(length, INPUTS)).astype(np.float32)
        self.y = np.sin(self.x.sum(axis=1)).astype(np.float32)
        self.spoil = dict(spoil or {})
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        self.reads.append(index)
        match self.spoil.get(index):
            case None:
                return {"x": self.x[index], "y": self.y[index]}
            case Exception() as error:
                raise error
            case "nan":
                return {"x": self.x[index], "y": np.float32(np.nan)}
            case other:
                return other


class Stream:
    """An iterator over examples that can be resumed; an exception among them is raised."""

    def __init__(self, examples: Iterable[Any]) -> None:
        self.examples = list(examples)
        self.pulls = self.place = 0
        self.closed = False

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        if self.place >= len(self.examples):
            raise StopIteration
        example = self.examples[self.place]
        self.place += 1
        self.pulls += 1
        if isinstance(example, Exception):
            raise example
        return example

    def get_state(self) -> Any:
        return {"place": self.place}

    def set_state(self, state: Any) -> None:
        self.place = state["place"]

    def close(self) -> None:
        self.closed = True


def drawn(key: jax.Array, *shape: int) -> jax.Array:
    """As good as random for a test, and compiled in a fraction of the time of a normal draw."""
    seed = (jax.random.key_data(key)[-1] % 1000).astype(jnp.float32)
    return jnp.sin(seed + jnp.arange(float(math.prod(shape))) ** 2).reshape(shape)


def init(key: jax.Array, width: int = 8) -> Any:
    weights = drawn(key, INPUTS + 1, width)
    return {"a": weights[:INPUTS] / INPUTS**0.5, "b": weights[INPUTS] / width**0.5}


def wide_init(key: jax.Array) -> Any:
    """Parameters of which one is large enough to be cut over devices, and one is not."""
    return init(key, width=960)


def loss(params: Any, batch: Any, key: jax.Array) -> Any:
    hidden = jnp.tanh(batch["x"] @ params["a"])
    hidden += 0.01 * drawn(key, *hidden.shape)
    error = jnp.mean((hidden @ params["b"] - batch["y"]) ** 2)
    return error, {"double": 2 * error}


def optimizer() -> optax.GradientTransformation:
    """Its state counts, schedules and has moments: a skip must leave all of them alone."""
    schedule = optax.cosine_decay_schedule(1e-2, 40)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))


OPTIMIZER = optimizer()


def program(**changes: Any) -> Program:
    parts: dict[str, Any] = {"init": init, "loss": loss, "optimizer": OPTIMIZER, "data": Data()}
    return Program(**{**parts, **changes})


ROOM_AT = 2
"""The first step at which room for snapshots is being made, and may be waited for."""


def wait_for_room(directory: Path, deadline_s: float = 30.0) -> None:
    """Return once a run has made room for its snapshots, of which the next step's can be one."""
    last, end = directory / NAMES[-1], time.monotonic() + deadline_s
    while not last.exists() or not last.stat().st_blocks:
        assert time.monotonic() < end, f"no room was made in {directory} within {deadline_s} s"
        time.sleep(0.001)


@dataclass
class Recorder:
    """Remembers every report in order; decides by `verdict`, and goes back `rollback_steps`."""

    verdict: Callable[[Fault], Verdict] = lambda fault: Verdict.FAIL
    on_step: Callable[[StepRecord], None] = lambda record: None
    rollback_steps: int = 0
    heard: list[tuple[str, Any]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def _note(self, what: str, value: Any) -> None:
        with self.changed:
            self.heard.append((what, value))
            self.changed.notify_all()

    def all(self, what: str) -> list[Any]:
        with self.changed:
            return [value for name, value in self.heard if name == what]

    def wait_for(self, what: str, count: int = 1, timeout_s: float = 30.0) -> list[Any]:
        with self.changed:
            enough = self.changed.wait_for(
                lambda: sum(name == what for name, _ in self.heard) >= count, timeout_s
            )
        assert enough, f"{what} was not heard {count} times in {timeout_s} s: {self.heard}"
        return self.all(what)

    @property
    def steps(self) -> list[StepRecord]:
        return self.all("stepped")

    @property
    def faults(self) -> list[Fault]:
        return self.all("faulted")

    @property
    def phases(self) -> list[Phase]:
        return [phase for phase, _ in self.all("entered")]

    def entered(self, phase: Phase, step: int) -> None:
        self._note("entered", (phase, step))

    def slots_fixed(self, slots: int) -> None:
        self._note("slots_fixed", slots)

    def restored(self, step: int, batch: int, source: str) -> None:
        self._note("restored", (step, batch, source))

    def stepped(self, record: StepRecord) -> None:
        self._note("stepped", record)
        self.on_step(record)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        self._note("evaluated", (step, dict(metrics)))

    def saved(self, record: SaveRecord) -> None:
        self._note("saved", record)

    def faulted(self, fault: Fault) -> None:
        self._note("faulted", fault)

    def decide(self, fault: Fault) -> Judgement:
        self._note("decide", fault)
        return Judgement(verdict=self.verdict(fault), rollback_steps=self.rollback_steps)

    def rolled_back(self, record: RollbackRecord) -> None:
        self._note("rolled_back", record)

    def paused(self, step: int) -> None:
        self._note("paused", step)

    def resumed(self, step: int) -> None:
        self._note("resumed", step)
