"""A small problem for `Engine.fit`: steps, batches, loggers and callbacks that remember."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trainerd.actors import Callback, TrainingState, TrainState
from trainerd.actors.digest import state_digest

WIDTH = 4
EXAMPLES = 8


def loss(params: Any, batch: Any) -> jax.Array:
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)


def batch(index: int, *, spoil: float | None = None) -> dict[str, Any]:
    generator = np.random.default_rng((11, index))
    x = generator.normal(size=(EXAMPLES, WIDTH)).astype(np.float32)
    y = np.sin(x.sum(axis=1)).astype(np.float32)
    if spoil is not None:
        x[0, 0] = spoil
    return {"x": x, "y": y}


def batches(count: int, **spoil: float) -> list[dict[str, Any]]:
    """`count` batches; `b3=nan` spoils the one of index 3."""
    return [batch(index, spoil=spoil.get(f"b{index}")) for index in range(count)]


def micro(index: int, count: int, **spoil: float) -> dict[str, Any]:
    """A batch of `count` microbatches."""
    parts = range(index * count, index * count + count)
    return {"microbatches": [batch(i, spoil=spoil.get(f"m{i}")) for i in parts]}


OPTIMIZER = optax.adam(1e-2)


def state(optimizer: optax.GradientTransformation = OPTIMIZER) -> TrainState:
    return TrainState.create({"w": np.linspace(-1, 1, WIDTH, dtype=np.float32)}, optimizer)


def plain_step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
    """A step function as a newcomer writes it. Under `jax.jit` too."""
    value, gradients = jax.value_and_grad(loss)(state.params, batch)
    return state.apply_gradients(grads=gradients), {"loss": value}


jitted_step = jax.jit(plain_step)


class Log:
    """A logger that remembers; raises `error` if it has one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.events: list[tuple[int, str, dict[str, Any]]] = []

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.error is not None:
            raise self.error
        self.logged.append((step, dict(metrics)))

    def event(self, step: int, name: str, fields: Mapping[str, Any]) -> None:
        self.events.append((step, name, dict(fields)))

    def close(self) -> None: ...

    def named(self, name: str) -> list[tuple[int, dict[str, Any]]]:
        return [(step, fields) for step, event, fields in self.events if event == name]


class Recording(Callback):
    """Remembers every hook with a copy of what it saw; stops at `stop_at` updates."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at = stop_at
        self.heard: list[tuple[str, TrainingState]] = []

    def _note(self, hook: str, state: TrainingState) -> None:
        self.heard.append((hook, state.copy()))
        if hook == "step_end" and state.step == self.stop_at:
            state.should_stop = True

    def on_train_begin(self, state: TrainingState) -> None:
        self._note("train_begin", state)

    def on_train_end(self, state: TrainingState) -> None:
        self._note("train_end", state)

    def on_epoch_begin(self, state: TrainingState) -> None:
        self._note("epoch_begin", state)

    def on_epoch_end(self, state: TrainingState) -> None:
        self._note("epoch_end", state)

    def on_step_begin(self, state: TrainingState) -> None:
        self._note("step_begin", state)

    def on_step_end(self, state: TrainingState) -> None:
        self._note("step_end", state)

    @property
    def hooks(self) -> list[str]:
        return [hook for hook, _ in self.heard]


class Failing:
    """A step function that raises for some calls, counted from 0."""

    def __init__(self, *calls: int, error: BaseException | None = None) -> None:
        self.calls, self.error = calls, error or ValueError("user boom")
        self.called = 0

    def __call__(self, state: Any, batch: Any) -> Any:
        self.called += 1
        if self.called - 1 in self.calls:
            raise self.error
        return jitted_step(state, batch)


class Counted:
    """An iterator that knows how often it was asked."""

    def __init__(self, count: int, raises: dict[int, Exception] | None = None) -> None:
        self.count, self.raises, self.pulled = count, raises or {}, 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        index = self.pulled
        if index >= self.count:
            raise StopIteration
        self.pulled += 1
        if index in self.raises:
            raise self.raises[index]
        return batch(index)


def trained(count: int, *left_out: int) -> TrainState:
    """What a bare loop makes of `count` batches."""
    reached = state()
    for index in range(count):
        if index not in left_out:
            reached, _ = jitted_step(reached, batch(index))
    return reached


def same(one: Any, other: Any) -> bool:
    return state_digest(one) == state_digest(other)
