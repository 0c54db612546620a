"""A user's step function as the loop calls it: guarded, and with what is known of its outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from trainerd.actors.accumulation import Accumulated, AccumulationStep
from trainerd.actors.control import Word
from trainerd.actors.errors import EngineError
from trainerd.actors.feed import Loaded
from trainerd.actors.packing import Packed, pack, packable
from trainerd.actors.state import PyTree, TrainState, is_array, learning_rate
from trainerd.actors.state_shapes import kept, unchanged
from trainerd.actors.step import Outputs, Settings
from trainerd.actors.work import Step, Told

StepFunction = Callable[[Any, Any], tuple[Any, Any]]
"""`(state, batch) -> (state, metrics)`; metrics: a mapping of numbers, or the loss alone."""


class _Traced(Protocol):
    def __call__(self, state: Any, *batch: Any) -> tuple[Any, Accumulated]: ...


def make_step(function: StepFunction, state: PyTree) -> Step:
    """Choose how `function` is run on states like `state`.

    What `create_gradient_accumulation_step_fn` made, and what `jax.jit` made, is compiled anew
    together with the guard, and the state is donated. A plain Python function may have effects
    that nobody knows of: it is called as it is, once a batch, and awaited.
    """
    if isinstance(function, AccumulationStep):
        return CompiledFunction(function.run)
    if isinstance(function, jax.stages.Wrapped):
        return CompiledFunction(_Guarded(function, _watched(state)))
    return PlainFunction(function, _watched(state))


class CompiledFunction:
    """Implements `work.Step`: one compilation for each shape of batch, the state donated."""

    lag = 1

    def __init__(self, traced: _Traced) -> None:
        def packed(state: Any, *batch: Any) -> tuple[Any, Packed[Accumulated]]:
            after, done = traced(state, *batch)
            return after, pack(done)

        self._call = jax.jit(packed, donate_argnums=0)

    def __call__(
        self,
        state: PyTree,
        loaded: Loaded,
        _forced: tuple[int, ...],
        _settings: Settings,
        word: Word,
        /,
    ) -> tuple[PyTree, Told]:
        after, done = self._call(state, *loaded.slots)
        return after, _Dispatched(done, word)


class PlainFunction:
    """Implements `work.Step`: calls the function, waits, and keeps the old state if it must."""

    lag = 0

    def __init__(self, function: StepFunction, watched: tuple[int, ...]) -> None:
        self._function, self._watched = function, watched
        self._finite = jax.jit(_all_finite)

    def __call__(
        self,
        state: PyTree,
        loaded: Loaded,
        _forced: tuple[int, ...],
        _settings: Settings,
        word: Word,
        /,
    ) -> tuple[PyTree, Told]:
        # Containers of its own: a function that writes into them spoils nothing of ours.
        lent = jax.tree.map(lambda leaf: leaf, state)
        after, metrics = _pair(self._function(lent, *loaded.slots))
        unchanged(after, state)
        leaves = jax.tree.leaves(after)
        finite = self._finite([leaves[index] for index in self._watched])
        # Whatever fails at run time fails here, in its own step.
        jax.block_until_ready(leaves)
        metrics = {name: _number(name, value) for name, value in metrics.items()}
        loss = metrics.get("loss", 0.0)
        applied = bool(finite) and math.isfinite(loss)
        if not applied and _any_deleted(state):
            raise EngineError(
                f"the update of this batch is not finite (loss {loss:g}), and step_fn has donated "
                "the state before it",
                suggestion="leave out donate_argnums: fit makes a copy of its own and donates that",
            )
        done = _done(applied, metrics.pop("loss", math.nan), metrics, np)
        return (after if applied else state), _Done(_outputs(done, word))


@dataclass(frozen=True, slots=True)
class _Dispatched:
    """Implements `work.Told` over what the device says."""

    packed: Packed[Accumulated]
    word: Word

    def ready(self) -> bool:
        return self.packed.ready()

    def read(self) -> Outputs:
        return _outputs(self.packed.read(), self.word)


@dataclass(frozen=True, slots=True)
class _Done:
    """Implements `work.Told` for a step that was awaited."""

    outputs: Outputs

    def ready(self) -> bool:
        return True

    def read(self) -> Outputs:
        return self.outputs


class _Guarded:
    """A jitted function with a guard around it. Traceable."""

    def __init__(self, function: StepFunction, watched: tuple[int, ...]) -> None:
        self._function, self._watched = function, watched

    def __call__(self, state: Any, *batch: Any) -> tuple[Any, Accumulated]:
        after, said = _pair(self._function(state, *batch))
        metrics = {name: jnp.asarray(value) for name, value in said.items()}
        for name, value in metrics.items():
            if value.shape != ():
                raise _no_number(name, f"shape {list(value.shape)}")
            if not packable(value.dtype):
                raise _no_number(name, f"a {value.dtype}")
        loss = metrics.pop("loss", None)
        unchanged(after, state)
        leaves = jax.tree.leaves(after)
        applied = _all_finite([leaves[index] for index in self._watched])
        if loss is not None:
            applied &= jnp.isfinite(loss)
        done = _done(applied, math.nan if loss is None else loss, metrics, jnp)
        return kept(applied, after, state), done


def _done(applied: Any, loss: Any, metrics: Mapping[str, Any], numpy: Any) -> Accumulated:
    """What is known of a step whose inside is not: it counted as a whole, or not at all."""
    metrics = dict(metrics)
    return Accumulated(
        applied=applied,
        loss=loss,
        gradient_norm=metrics.pop("gradient_norm", math.nan),
        metrics=metrics,
        finite=numpy.reshape(applied, (1,)),
        counted=numpy.reshape(applied, (1,)),
        absent=numpy.reshape(numpy.logical_not(applied), (1,)),
        absences=numpy.int32(numpy.logical_not(applied)),
        count=numpy.int32(applied),
        weight=numpy.float32(1.0),
    )


def _outputs(done: Accumulated, word: Word) -> Outputs:
    return Outputs(
        step=None,
        live=True,
        applied=done.applied,
        loss=done.loss,
        gradient_norm=done.gradient_norm,
        metrics=done.metrics,
        spiked=False,
        finite=done.finite,
        counted=done.counted,
        absent=done.absent,
        count=done.count,
        absences=done.absences,
        weight=done.weight,
        control=word,
    )


def _pair(returned: Any) -> tuple[Any, Mapping[str, Any]]:
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise EngineError(
            f"step_fn must return (state, metrics), got {type(returned).__name__}",
            suggestion="return the new state and a dict of numbers",
        )
    after, metrics = returned
    rate = learning_rate(after.opt_state) if isinstance(after, TrainState) else {}
    if metrics is None:
        return after, rate
    if not isinstance(metrics, Mapping):
        return after, {**rate, "loss": metrics}
    return after, {**rate, **{str(name): value for name, value in metrics.items()}}


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise _no_number(name, f"a {type(value).__name__}") from error


def _no_number(name: str, came: str) -> EngineError:
    return EngineError(
        f'metric "{name}" of step_fn must be one number, got {came}',
        suggestion="return its mean, or another single number",
    )


def _watched(state: PyTree) -> tuple[int, ...]:
    """Leaves that no update may make infinite or NaN: a `TrainState`'s parameters; of another
    state whatever floats are finite now."""
    if isinstance(state, TrainState):
        state = TrainState(
            params=state.params,
            opt_state=jax.tree.map(lambda _: 0, state.opt_state),
            step=0,  # type: ignore[arg-type]
            rng=0,  # type: ignore[arg-type]
        )
    return tuple(
        index
        for index, leaf in enumerate(jax.tree.leaves(state))
        if is_array(leaf)
        and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
        and bool(jnp.all(jnp.isfinite(leaf)))
    )


def _all_finite(leaves: list[Any]) -> jax.Array:
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in leaves]
    return jnp.all(jnp.stack(finite)) if finite else jnp.bool_(True)


def _any_deleted(state: PyTree) -> bool:
    return any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(state))
