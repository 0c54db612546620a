"""Everything before the first step: state from a checkpoint or anew, slots, the compiled step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_restore import Restored
from trainerd.actors.compiled import CompiledStep, compile_step
from trainerd.actors.data import BatchSource, open_batches
from trainerd.actors.errors import DataError, PlanError
from trainerd.actors.executables import ExecutableStore
from trainerd.actors.feed import Feed, Loaded
from trainerd.actors.gang_meeting import Meeting
from trainerd.actors.head_start import HeadStart
from trainerd.actors.ledger import Entry, Ledger
from trainerd.actors.placement import on_mesh, own_rows
from trainerd.actors.plan import Plan
from trainerd.actors.program import Program
from trainerd.actors.reports import Phase, Reporter
from trainerd.actors.shards import SHARDED
from trainerd.actors.slots import SlotPlan, plan_slots
from trainerd.actors.snapshots import SnapshotStore
from trainerd.actors.state import PyTree, TrainState
from trainerd.actors.states import States
from trainerd.actors.step import data_mesh
from trainerd.actors.step_executable import StepStore
from trainerd.actors.traceback_text import user_traceback

MEETING_S = 600.0
"""How long processes wait for each other before the first step, unless they are told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the loop trains with. `state` belongs to the loop, which donates it.

    `states` is where others come from; `beginning` is where the data stands before batch 0, None
    with random access.
    """

    state: TrainState
    states: States
    restored: Restored | None
    beginning: dict[str, Any] | None
    slot_plan: SlotPlan
    batches: BatchSource
    step: CompiledStep


def prepare(
    program: Program,
    plan: Plan,
    *,
    devices: Sequence[jax.Device],
    directories: Sequence[Path],
    reporter: Reporter,
    enter: Callable[[Phase, int], None],
    left_out: Sequence[Entry] = (),
    snapshots: SnapshotStore | None = None,
    executable_directory: Path | None = None,
    head_start: HeadStart | None = None,
    meeting: Meeting | None = None,
    meeting_timeout_s: float = MEETING_S,
    known: Checkpoint | None = None,
    feed: Feed | None = None,
) -> Prepared:
    """Read the data's shape, restore or make the state, compile the step; raises typed errors.

    `left_out`: what the run is known to leave out, whatever the checkpoints of `directories` say.
    A state is restored from `snapshots` too, the step loaded from `executable_directory`. `known`:
    the newest durable checkpoint that the run is known to have: it never begins anew instead.
    `feed` is started as soon as it is known where the data goes on, and reads the first batch while
    the step is compiled; the caller closes it, whatever befalls.
    With `meeting` all processes that meet there, whose devices `devices` are, begin with the same
    state, and wait for each other for `meeting_timeout_s` at each turn.
    """
    enter(Phase.INIT, 0)
    if head_start is not None and (why := head_start.too_early()):
        # Not the program's fault: the next process begins without.
        raise jax.errors.JaxRuntimeError(f"INTERNAL: {why}")
    mesh = data_mesh(devices)
    # Before anything is traced: a trace may change what functions hold.
    kept = (
        StepStore.of(ExecutableStore(executable_directory), program, devices, head_start)
        if executable_directory is not None
        else None
    )
    batches = open_batches(program.data, global_batch=plan.global_batch, seed=plan.seed)
    states = States(
        program,
        plan.seed,
        mesh,
        directories=directories,
        faulted=reporter.faulted,
        snapshots=snapshots,
        known=kept.form() if kept else None,
        meeting=meeting,
        timeout_s=meeting_timeout_s,
        sharded=plan.state == SHARDED,
    )
    enter(Phase.RESTORE, 0)
    beginning = batches.position(0)
    restored = states.stored(left_out, known=known)
    if restored is not None:
        _same_run(plan, restored)
        batches.resume(restored.meta.batch, restored.meta.data)
    slot_plan = _slot_plan(plan, len(devices), restored.meta.slots if restored else 0)
    if plan.slots == 0 and (meeting is None or meeting.process_id == 0):
        reporter.slots_fixed(slot_plan.slots)
    if restored is not None:
        step = restored.checkpoint.step
        reporter.restored(step, restored.meta.batch, str(restored.checkpoint.path))
        state = restored.state
    else:
        step = 0
        state = states.fresh()
        reporter.restored(0, 0, "init")
    made: Future[CompiledStep] = Future()
    if feed is not None:
        rows = own_rows(mesh, slot_plan)
        feed.start(loader(program, slot_plan, batches, made.result, rows), ended=batches.close)
        if step < plan.steps:
            feed.ahead(_first_fed(restored, left_out))
    enter(Phase.COMPILE, step)
    try:
        compiled = compile_step(
            program,
            slot_plan,
            mesh,
            on_mesh(states.abstract, mesh),
            batches.template,
            arithmetic=plan.arithmetic,
            kept=kept,
        )
    except BaseException as error:
        made.set_exception(error)
        raise
    made.set_result(compiled)
    if meeting is not None:
        # Compiling takes one longer than another; a step must not wait as long.
        meeting.together("compiled", meeting_timeout_s)
    return Prepared(
        state=state,
        states=states,
        restored=restored,
        beginning=beginning,
        slot_plan=slot_plan,
        batches=batches,
        step=compiled,
    )


def planned(plan: Plan, *, devices: int) -> SlotPlan | None:
    """How the batches of a run that has not begun yet are cut; None: not at all."""
    try:
        return _slot_plan(plan, devices, 0)
    except PlanError:
        return None


def loader(
    program: Program,
    slot_plan: SlotPlan,
    batches: BatchSource,
    step: Callable[[], CompiledStep],
    rows: range | None = None,
) -> Callable[[int], Loaded]:
    """Make the function that turns a batch's index into slots on the devices.

    `step` is called once a batch has been read, and may wait until there is one. `rows`: the slots
    that this process feeds; all by default.
    """
    rows = rows or range(slot_plan.padded)
    part = slot_plan.examples(rows)
    nothing = slot_plan.empty(batches.template, rows)
    even = slot_plan.weigh(nothing, None)
    placed_even: PyTree = None

    def load(batch: int) -> Loaded:
        nonlocal placed_even
        error = None
        try:
            slots = slot_plan.cut(batches.read(batch, part), rows)
            weights = _weights(program, slot_plan, slots, batch, rows) if program.weight else even
        except DataError as raised:
            error, slots = raised, nothing
            weights = even * 0
        compiled = step()
        if placed_even is None:
            # The same for every batch.
            placed_even = compiled.place(even)
        return Loaded(
            batch=batch,
            slots=compiled.place_batch(slots),
            placed_weights=placed_even if weights is even else compiled.place(weights),
            weights=weights,
            error=error,
        )

    return load


def _first_fed(restored: Restored | None, left_out: Sequence[Entry]) -> int:
    """The batch that the loop asks for first."""
    if restored is None:
        return Ledger(left_out).next_fed(0)
    return Ledger((*left_out, *restored.meta.ledger)).next_fed(restored.meta.batch)


def _slot_plan(plan: Plan, devices: int, before: int) -> SlotPlan:
    """`before`: the number of slots that the run was begun with; 0: not known."""
    return plan_slots(
        global_batch=plan.global_batch,
        devices=devices,
        microbatch=plan.microbatch,
        accumulate_steps=plan.accumulate_steps,
        slots=plan.slots or before,
        parts=plan.slot_parts,
    )


def _weights(
    program: Program, slot_plan: SlotPlan, slots: PyTree, batch: int, rows: range
) -> np.ndarray[Any, Any]:
    try:
        return slot_plan.weigh(slots, program.weight, rows)
    except Exception as error:
        raise DataError(
            f"weighing batch {batch} raised {type(error).__name__}: {error}",
            batch=batch,
            detail=user_traceback(error),
        ) from error


def _same_run(plan: Plan, restored: Restored) -> None:
    """Refuse to continue a run whose numbers decide which example is in which batch."""
    meta = restored.meta
    problems = [
        f"{name} was {before}, is {now}"
        for name, before, now in (
            ("seed", meta.seed, plan.seed),
            ("global_batch", meta.global_batch, plan.global_batch),
            ("slots", meta.slots, plan.slots or meta.slots),
        )
        if before != now
    ]
    if problems:
        raise PlanError(
            f"the run in {restored.checkpoint.path.parent} cannot be continued: "
            + "; ".join(problems),
            suggestion="keep these as they were, or begin a new run in another directory",
        )
