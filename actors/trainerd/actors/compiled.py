"""The step ahead of time: traced, lowered and compiled once, then called with as little ado as
possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from trainerd.actors import control
from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.program import Program
from trainerd.actors.slots import SlotPlan
from trainerd.actors.state import PyTree, TrainState
from trainerd.actors.step import Outputs, Settings, make_step, replicated, spread


class CompiledStep:
    """A step compiled for one mesh and one plan. Its state argument is donated.

    What hardly ever changes from step to step is kept on the devices: a healthy step transfers
    its batch and nothing else. Not safe for threads, but for `place`.
    """

    def __init__(
        self, function: Callable[..., tuple[TrainState, Outputs]], mesh: Mesh, plan: SlotPlan
    ) -> None:
        self.function, self.mesh, self.plan = function, mesh, plan
        self._cut, self._whole = spread(mesh), replicated(mesh)
        # Costs a small compilation once, and at each call a fifth of what `device_put` takes of
        # the interpreter, which the loop's thread needs.
        self._place = jax.jit(lambda host: host, in_shardings=self._cut, out_shardings=self._cut)
        self._alone = jax.process_count() == 1
        self._no_mask = self.place(plan.mask(()))
        self._idle_words = self._words(control.word())
        self._settings: tuple[Settings, Settings] | None = None

    def place(self, host: PyTree) -> PyTree:
        """Put slots, weights or masks onto the devices, each leaf cut along its first axis."""
        return jax.device_put(host, self._cut)

    def place_batch(self, host: PyTree) -> PyTree:
        """The same, for what is placed at every step; `host` may be written to afterwards."""
        return self._place(host) if self._alone else self.place(host)

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
    ) -> tuple[TrainState, Outputs]:
        """Dispatch one step with this process's control word; returns before it has run."""
        if self._settings is None or self._settings[0] is not settings:
            self._settings = settings, jax.device_put(settings, self._whole)
        words = self._words(word) if word.any() else self._idle_words
        return self.function(state, slots, weights, forced_mask, self._settings[1], words)

    def _words(self, word: control.Word) -> Any:
        """This process's word once for each of its devices; other processes place theirs."""
        local = np.tile(word, (len(self.mesh.local_devices), 1))
        return jax.make_array_from_process_local_data(self._cut, local)


def compile_step(
    program: Program,
    plan: SlotPlan,
    mesh: Mesh,
    state: TrainState,
    template: PyTree,
    *,
    arithmetic: Arithmetic | None = None,
) -> CompiledStep:
    """Trace, lower and compile the step once, ahead of the first batch.

    `state` may be abstract; `template` is one example's leaves (shape and dtype).
    """
    cut, whole = spread(mesh), replicated(mesh)

    def abstract(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    slots = jax.tree.map(
        lambda leaf: abstract((plan.padded, plan.slot_examples, *leaf.shape), leaf.dtype, cut),
        template,
    )
    lowered = jax.jit(
        make_step(program, mesh, arithmetic or Arithmetic()),
        donate_argnums=0,
        out_shardings=(whole, whole),
    ).lower(
        jax.tree.map(lambda leaf: abstract(leaf.shape, leaf.dtype, whole), state),
        slots,
        abstract((plan.padded,), np.float32, cut),
        abstract((plan.padded,), np.bool_, cut),
        jax.tree.map(
            lambda leaf: abstract(leaf.shape, leaf.dtype, whole), Settings.of(steps=0, mask=True)
        ),
        abstract((plan.devices, control.LANES), np.int32, cut),
    )
    return CompiledStep(lowered.compile(), mesh, plan)
