"""A compiled step with a state and batches, for tests that feed it by hand."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from trainerd.actors import control
from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.compiled import CompiledStep, compile_step
from trainerd.actors.data import Batches
from trainerd.actors.program import Program
from trainerd.actors.slots import SlotPlan, plan_slots
from trainerd.actors.state import TrainState
from trainerd.actors.step import Settings, data_mesh, fresh_state, replicated

GLOBAL_BATCH = 24

COMPILED: dict[Any, tuple[CompiledStep, TrainState]] = {}
"""Compiling is most of a test's time, and steps have no state of their own."""


class Rig:
    """A compiled step with its state and batches."""

    def __init__(
        self,
        program: Program,
        *,
        devices: int = 1,
        microbatch: int = 3,
        steps: int = 1000,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self.program = program
        self.plan: SlotPlan = plan_slots(
            global_batch=GLOBAL_BATCH, devices=devices, microbatch=microbatch
        )
        mesh = data_mesh(jax.devices()[:devices])
        self.batches = Batches(program.data, global_batch=GLOBAL_BATCH, seed=0)
        key = (program.init, program.loss, program.optimizer, devices, microbatch, arithmetic)
        if key not in COMPILED:
            state = fresh_state(program, 0, mesh)
            step = compile_step(
                program, self.plan, mesh, state, self.batches.template, arithmetic=arithmetic
            )
            COMPILED[key] = (step, jax.device_get(state))
        self.step, initial = COMPILED[key]
        self.state: TrainState = jax.device_put(
            jax.tree.map(np.copy, initial), replicated(mesh), may_alias=False
        )
        self.settings = Settings.of(steps=steps, mask=True)

    def run(
        self,
        batch: int,
        *,
        forced: tuple[int, ...] = (),
        settings: Settings | None = None,
        **lanes: int,
    ) -> Any:
        slots = self.plan.cut(self.batches.read(batch))
        return self.feed(slots, forced=forced, settings=settings, **lanes)

    def feed(
        self,
        slots: Any,
        *,
        forced: tuple[int, ...] = (),
        settings: Settings | None = None,
        weights: np.ndarray | None = None,
        **lanes: int,
    ) -> Any:
        if weights is None:
            weights = self.plan.weigh(slots, self.program.weight)
        place = self.step.place
        self.state, outputs = self.step(
            self.state,
            place(slots),
            place(weights),
            self.step.mask(forced),
            settings or self.settings,
            control.word(**lanes),
        )
        return outputs.read()


def leaves(state: TrainState) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
