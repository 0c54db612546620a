"""Looking at a program without running it: every problem that shapes alone can show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from trainerd.actors.data import open_batches
from trainerd.actors.errors import TrainingError
from trainerd.actors.faults import classify
from trainerd.actors.loss import LossFunction, loss_function
from trainerd.actors.plan import Plan
from trainerd.actors.program import Program
from trainerd.actors.reports import Fault, Phase
from trainerd.actors.slots import SlotPlan, plan_slots
from trainerd.actors.state import PyTree, TrainState, apply_optimizer, initial_state


def check_program(program: Program, plan: Plan, *, devices: int = 1) -> list[Fault]:
    """Return all problems of `program` under `plan`, each with the user's traceback; [] if none.

    Reads one batch, weighs it, and evaluates the shapes of parameters, loss, gradients and update.
    Computes nothing on a device. What depends on a failed part is not looked at.
    """
    problems: list[Fault] = []

    def attempt(part: Callable[[], Any]) -> Any:
        try:
            return part()
        except Exception as error:
            problems.append(classify(error, phase=Phase.INIT, step=0, state_intact=True))
            return None

    slot_plan = attempt(
        lambda: plan_slots(
            global_batch=plan.global_batch,
            devices=devices,
            microbatch=plan.microbatch,
            accumulate_steps=plan.accumulate_steps,
            slots=plan.slots,
        )
    )
    batches = attempt(
        lambda: open_batches(program.data, global_batch=plan.global_batch, seed=plan.seed)
    )
    batch = attempt(lambda: batches.read(0)) if batches else None
    if batches:
        batches.close()
    state = attempt(lambda: jax.eval_shape(lambda: initial_state(program, plan.seed)))
    if slot_plan and batch is not None:
        attempt(lambda: slot_plan.weigh(slot_plan.cut(batch), program.weight))
    if slot_plan and batches and state:
        loss = loss_function(program, plan.arithmetic)
        attempt(lambda: _update(program, loss, slot_plan, batches.template, state))
    return problems


def _update(
    program: Program, loss: LossFunction, plan: SlotPlan, template: PyTree, state: TrainState
) -> None:
    """Evaluate the shapes of one update; refuse one that changes the state's types."""
    slot = jax.tree.map(lambda leaf: leaf[0], plan.empty(template))

    def update(state: TrainState, batch: PyTree) -> TrainState:
        key = jax.random.wrap_key_data(state.rng)
        gradients, _ = jax.grad(loss, has_aux=True)(state.params, batch, key)
        return apply_optimizer(program.optimizer, state, gradients)

    after = jax.eval_shape(update, state, slot)
    before_def, after_def = str(jax.tree.structure(state)), str(jax.tree.structure(after))
    if before_def != after_def:
        raise TrainingError(
            "the optimizer's update returns another structure than its init: "
            f"expected {before_def}, got {after_def}"
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(after), strict=True)
    for (path, before), now in pairs:
        if before.shape != now.shape:
            raise TrainingError(
                f"an update changes {jax.tree_util.keystr(path)} from shape "
                f"{list(np.shape(before))} to {list(np.shape(now))}"
            )
