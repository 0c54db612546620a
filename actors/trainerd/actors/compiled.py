"""The step ahead of time: traced, lowered and compiled once, then called with as little ado as
possible."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from trainerd.actors import control
from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.packing import Packed, pack
from trainerd.actors.placement import Placement
from trainerd.actors.program import Program
from trainerd.actors.slots import SlotPlan
from trainerd.actors.state import PyTree, TrainState
from trainerd.actors.step import Outputs, Settings, make_step, replicated, spread
from trainerd.actors.step_executable import StepStore, Trial, uncached

_UNCOMPILED = 4
"""Batches that are placed before a function for it is compiled."""


class CompiledStep:
    """A step compiled for one mesh and one plan. Its state argument is donated.

    What hardly ever changes from step to step is kept on the devices: a healthy step transfers
    its batch and nothing else. Not safe for threads, but for `place`.
    """

    def __init__(
        self,
        function: jax.stages.Compiled,
        mesh: Mesh,
        plan: SlotPlan,
        trial: Trial | None = None,
    ) -> None:
        """`trial`: `function` was compiled by another process, and has not been run yet."""
        self.function, self.mesh, self.plan = function, mesh, plan
        self._trial, self._calls = trial, 0
        self._placement = Placement(mesh, plan)
        cut = spread(mesh)
        # Takes at each call a fifth of what `device_put` takes of the interpreter, which the loop's
        # thread needs; and a small compilation once, for which the first step does not wait.
        self._place = jax.jit(lambda host: host, in_shardings=cut, out_shardings=cut)
        self._placed = 0
        self._no_mask = self.place(plan.mask(()))
        self._idle_words = self._placement.words(control.word())
        self._word: tuple[control.Word, Any] | None = None
        self._settings: tuple[Settings, Settings] | None = None

    def memory(self) -> str:
        """What the step needs of each device's memory, in words, as far as XLA tells."""
        needed = self.function.memory_analysis()
        if needed is None:
            return ""
        return (
            "the compiled step needs, in bytes a device: "
            f"{needed.argument_size_in_bytes} for its arguments, "
            f"{needed.output_size_in_bytes} for its results, "
            f"{needed.alias_size_in_bytes} of them shared between both, and "
            f"{needed.temp_size_in_bytes} for what it computes in between"
        )

    def place(self, host: PyTree) -> PyTree:
        """Put weights or masks, leaves `(padded, …)`, onto the devices, cut along that axis.

        Of several processes each puts its own rows there.
        """
        return self._placement.whole(host)

    def place_batch(self, host: PyTree) -> PyTree:
        """The same for this process's own rows (`placement.own_rows`).

        `host` may be written to afterwards.
        """
        if not self._placement.alone:
            return self._placement.own(jax.tree.map(np.copy, host))
        self._placed += 1
        if self._placed <= _UNCOMPILED:
            return self.place(jax.tree.map(np.copy, host))
        return self._place(host)

    def mask(self, forced: tuple[int, ...]) -> Any:
        """The mask that holds in slots `forced`, on the devices."""
        return self.place(self.plan.mask(forced)) if forced else self._no_mask

    def __call__(  # noqa: PLR0917
        self,
        state: TrainState,
        slots: PyTree,
        weights: PyTree,
        forced_mask: PyTree,
        settings: Settings,
        word: control.Word,
    ) -> tuple[TrainState, Packed[Outputs]]:
        """Dispatch one step with this process's control word; returns before it has run."""
        if self._settings is None or self._settings[0] is not settings:
            self._settings = settings, self._placement.same(settings)
        words = self._words(word) if word.any() else self._idle_words
        inputs = (state, slots, weights, forced_mask, self._settings[1], words)
        if self._trial is not None:
            return self._tried(self._trial, inputs)
        after: tuple[TrainState, Packed[Outputs]] = self.function(*inputs)
        return after

    def _tried(self, trial: Trial, inputs: tuple[Any, ...]) -> tuple[TrainState, Packed[Outputs]]:
        self._calls += 1
        if self._calls > 2:
            # Two steps are in flight at most: the first was read before this one is begun.
            self._trial = None
            trial.passed()
        try:
            after: tuple[TrainState, Packed[Outputs]] = self.function(*inputs)
        except jax.errors.JaxRuntimeError as error:
            raise trial.failed(error) from error
        return after

    def _words(self, word: control.Word) -> Any:
        # Seldom another one than before: what is asked for is asked until it is agreed.
        if self._word is None or not np.array_equal(self._word[0], word):
            self._word = word, self._placement.words(word)
        return self._word[1]


def compile_step(
    program: Program,
    plan: SlotPlan,
    mesh: Mesh,
    state: TrainState,
    template: PyTree,
    *,
    arithmetic: Arithmetic | None = None,
    kept: StepStore | None = None,
) -> CompiledStep:
    """Trace, lower and compile the step once, ahead of the first batch; or load it from `kept`.

    `state` may be abstract, and says where its leaves lie on `mesh`; `template` is one example's
    leaves (shape and dtype).
    """
    arithmetic = arithmetic or Arithmetic()
    inputs = _inputs(plan, mesh, state, template)
    if kept is None:
        return CompiledStep(_compiled(program, plan, mesh, inputs, arithmetic), mesh, plan)
    key = kept.key(inputs, plan, arithmetic)
    loaded = kept.load(key, inputs, list(mesh.devices.flat))
    if loaded is not None:
        return CompiledStep(loaded, mesh, plan, kept.trial(key))
    with uncached():
        made = _compiled(program, plan, mesh, inputs, arithmetic)
    kept.keep(key, made, state)
    return CompiledStep(made, mesh, plan)


def _inputs(plan: SlotPlan, mesh: Mesh, state: TrainState, template: PyTree) -> tuple[Any, ...]:
    """What the step is called with: shapes, dtypes and shardings."""
    cut, whole = spread(mesh), replicated(mesh)

    def abstract(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    return (
        jax.tree.map(lambda leaf: abstract(leaf.shape, leaf.dtype, leaf.sharding), state),
        jax.tree.map(
            lambda leaf: abstract((plan.padded, plan.slot_examples, *leaf.shape), leaf.dtype, cut),
            template,
        ),
        abstract((plan.padded,), np.float32, cut),
        abstract((plan.padded,), np.bool_, cut),
        jax.tree.map(
            lambda leaf: abstract(leaf.shape, leaf.dtype, whole), Settings.of(steps=0, mask=True)
        ),
        abstract((plan.devices, control.LANES), np.int32, cut),
    )


def _compiled(
    program: Program, plan: SlotPlan, mesh: Mesh, inputs: tuple[Any, ...], arithmetic: Arithmetic
) -> jax.stages.Compiled:
    whole, before = replicated(mesh), inputs[0]
    step = make_step(program, mesh, arithmetic, parts=plan.parts, params=before.params)
    as_before = jax.tree.map(lambda leaf: leaf.sharding, before)

    def packed(state: TrainState, *others: Any) -> tuple[TrainState, Packed[Outputs]]:
        after, outputs = step(state, *others)
        return after, pack(outputs)

    jitted = jax.jit(packed, donate_argnums=0, out_shardings=(as_before, whole))
    return jitted.lower(*inputs).compile()
