"""A program under the loop: what the trainer actor runs, and `Engine.fit_program`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trainerd.actors import checkpoint_files as files
from trainerd.actors.batch_files import Evidence, NoEvidence
from trainerd.actors.company import Members
from trainerd.actors.compiled import CompiledStep
from trainerd.actors.conduct import conduct
from trainerd.actors.control import Word
from trainerd.actors.drills import Drill
from trainerd.actors.faults import classify
from trainerd.actors.feed import Feed, Loaded
from trainerd.actors.gang import Joining, gather
from trainerd.actors.gang_meeting import Meeting
from trainerd.actors.gathering import Gathering, Whole
from trainerd.actors.hooks import Audience
from trainerd.actors.ledger import Entry, Ledger
from trainerd.actors.packing import Packed
from trainerd.actors.placement import local_view, own_rows
from trainerd.actors.plan import Plan
from trainerd.actors.preparation import Prepared, loader, planned, prepare
from trainerd.actors.program import Program
from trainerd.actors.program_rewind import ProgramRewind
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import (
    Controls,
    Fault,
    FinishReason,
    Phase,
    Quiet,
    Reporter,
    Result,
)
from trainerd.actors.rules import Rulebook
from trainerd.actors.shards import cut_leaves
from trainerd.actors.shortage import short_of_memory
from trainerd.actors.snapshots import SnapshotStore
from trainerd.actors.snapshotting import Snapshots
from trainerd.actors.stage import Stage
from trainerd.actors.state import TrainState
from trainerd.actors.step import Outputs, Settings
from trainerd.actors.surroundings import Ending, Surroundings
from trainerd.actors.timesheet import Timesheet
from trainerd.actors.work import Evaluation, Position, Rewind, Work, own_digest

_FEED_CLOSE_S = 5.0


def run_loop(
    program: Program,
    plan: Plan,
    *,
    checkpoint_directory: Path,
    fallback_directory: Path | None = None,
    restore_directories: Sequence[Path] = (),
    ledger: Iterable[Entry] = (),
    reporter: Reporter | None = None,
    controls: Controls | None = None,
    rulebook: Rulebook | None = None,
    drill: Drill | None = None,
    clock: Callable[[], float] = time.monotonic,
    devices: Sequence[jax.Device] | None = None,
    recovery: Recovery | None = None,
    evidence: Evidence | None = None,
    joining: Joining | None = None,
    incarnation: int = 0,
    timesheet: Timesheet | None = None,
) -> Result:
    """Train `program` as `plan` says, from the newest checkpoint or from the beginning.

    Checkpoints go to `checkpoint_directory`, or to `fallback_directory` while that one fails; the
    newest sound one of both and of `restore_directories` is continued. `ledger` holds what the
    run's journal knows to be left out, beside what the checkpoint says. `rulebook`: where other
    rules than the plan's come from; `drill`: makes faults happen on purpose. `devices`: all there
    are, by default. Returns why it ended; a fault that needs a decision is put to
    `reporter.decide`, and never raised.

    `joining`: the gang that this process trains in; `devices` are then all of it. Where JAX knows
    of several processes without it, these train together. `incarnation`: of a run on several hosts,
    of which a newer one may save in the same directories; 0: it is another run.

    `recovery`: what the next process is to find on this host, and this one looks for. `evidence`
    keeps the batches of faults that are asked about; `timesheet` is what the time is booked on.

    `reporter` stays beside the program's callbacks, not one of them: it answers for faults, which
    a callback cannot, and hears of phases and saves before and after any callback runs.
    """
    reporter = reporter or Quiet()
    recovery = recovery or Recovery()
    own = (
        [checkpoint_directory]
        if fallback_directory is None
        else [
            checkpoint_directory,
            fallback_directory,
        ]
    )
    directories = [*own, *(place for place in restore_directories if place not in own)]
    left_out = tuple(ledger)
    around = Surroundings(
        reporter=reporter,
        controls=controls or Controls(),
        stage=Stage(reporter, timesheet, reached_step=recovery.reached_step),
        audience=Audience(callbacks=program.callbacks, faulted=reporter.faulted),
        clock=clock,
        rulebook=rulebook or Rulebook(),
        drill=drill,
        evidence=evidence or NoEvidence(),
    )
    with _closing(Feed()) as feed, _snapshot_store(recovery) as snapshots:
        known = 0
        try:
            gathered = gather(joining, devices)
            known = len(gathered.devices)
            prepared = prepare(
                program,
                plan,
                devices=gathered.devices,
                directories=directories,
                reporter=reporter,
                enter=around.stage.enter,
                left_out=left_out,
                snapshots=snapshots,
                executable_directory=recovery.executable_directory,
                head_start=recovery.head_start,
                meeting=gathered.meeting,
                meeting_timeout_s=gathered.timeout_s,
                known=recovery.known,
                feed=feed,
            )
        except Exception as error:
            fault = classify(error, phase=around.stage.phase, step=0, state_intact=True)
            reporter.decide(short_of_memory(fault, planned(plan, devices=known)))
            around.stage.enter(Phase.DRAIN, 0)
            return _unbegun(own)
        ending = train(
            program,
            plan,
            prepared,
            around,
            ledger=Ledger(left_out),
            directory=checkpoint_directory,
            fallback=fallback_directory,
            rollback=True,
            snapshots=snapshots,
            recovery=recovery,
            meeting=gathered.meeting,
            incarnation=incarnation,
            feed=feed,
        )
    if ending.raised is not None:
        raise ending.raised
    return ending.result


def train(
    program: Program,
    plan: Plan,
    prepared: Prepared,
    around: Surroundings,
    *,
    ledger: Ledger,
    directory: Path | None,
    fallback: Path | None = None,
    rollback: bool = False,
    snapshots: SnapshotStore | None = None,
    recovery: Recovery | None = None,
    feed: Feed | None = None,
    meeting: Meeting | None = None,
    incarnation: int = 0,
) -> Ending:
    """Run the loop on a prepared program, whose data is closed at the end.

    `rollback`: whether the run may go back to older states, which are found where the first one
    was. `feed`: what the program was prepared with, if anything; the caller's. `meeting`: of the
    processes that train together with this one.
    """
    recovery = recovery or Recovery()
    if feed is None:
        with _closing(Feed()) as own:
            slot_plan, rows = prepared.slot_plan, own_rows(prepared.step.mesh, prepared.slot_plan)
            load = loader(program, slot_plan, prepared.batches, lambda: prepared.step, rows)
            own.start(load, ended=prepared.batches.close)
            return train(
                program,
                plan,
                prepared,
                around,
                ledger=ledger,
                directory=directory,
                fallback=fallback,
                rollback=rollback,
                snapshots=snapshots,
                recovery=recovery,
                feed=own,
                meeting=meeting,
                incarnation=incarnation,
            )
    restored, compiled = prepared.restored, prepared.step
    rewind: Rewind | None = None
    if rollback:
        rewind = ProgramRewind(prepared, feed)

    def weighed(loaded: Loaded, weights: np.ndarray[Any, Any]) -> Loaded:
        return replace(loaded, placed_weights=compiled.place(weights))

    gathering, whole = _gathering(prepared, meeting), Whole(compiled.mesh)

    def explained(fault: Fault) -> Fault:
        return short_of_memory(fault, prepared.slot_plan, compiled.memory())

    work = Work(
        state=prepared.state,
        step=_ProgramStep(compiled),
        supply=_ProgramSupply(feed, prepared.batches.batches_per_epoch),
        slots=prepared.slot_plan.slots,
        slot_examples=prepared.slot_plan.slot_examples,
        position=Position.of(restored) if restored else Position(),
        form=_unchanged,
        reading=prepared.batches.position,
        evaluation=_evaluation(program, plan, whole, together=gathering is not None),
        rewind=rewind,
        explained=explained,
        weighed=weighed,
        digest=own_digest if gathering is None else gathering.digest,
        gathering=gathering,
    )
    taking = None
    if snapshots is not None:
        taking = Snapshots(
            snapshots,
            plan,
            work,
            prepared.states.abstract,
            crash_every_s=recovery.crash_every_s,
            told=recovery.told,
        )
    return conduct(
        work,
        plan,
        around,
        ledger=ledger,
        directory=directory,
        fallback=fallback,
        crash_every_s=recovery.crash_every_s,
        snapshots=taking,
        company=None if meeting is None else Members(meeting, clock=around.clock),
        incarnation=incarnation,
    )


@contextlib.contextmanager
def _closing(feed: Feed) -> Iterator[Feed]:
    try:
        yield feed
    finally:
        feed.close(_FEED_CLOSE_S)


@contextlib.contextmanager
def _snapshot_store(recovery: Recovery) -> Iterator[SnapshotStore | None]:
    if recovery.snapshot_directory is None:
        yield None
        return
    store = SnapshotStore(recovery.snapshot_directory, most_bytes=recovery.snapshot_bytes)
    try:
        yield store
    finally:
        store.close()


class _ProgramStep:
    """The compiled step as the loop calls it. Implements `work.Step`."""

    lag = 1

    def __init__(self, compiled: CompiledStep) -> None:
        self._compiled = compiled

    def __call__(
        self,
        state: TrainState,
        loaded: Loaded,
        forced: tuple[int, ...],
        settings: Settings,
        word: Word,
        /,
    ) -> tuple[TrainState, Packed[Outputs]]:
        mask = self._compiled.mask(forced)
        return self._compiled(state, loaded.slots, loaded.placed_weights, mask, settings, word)


class _ProgramSupply:
    """Batches made ahead in a thread. Implements `work.Supply`; the feed is the caller's."""

    def __init__(self, feed: Feed, batches_per_epoch: int | None) -> None:
        self.ahead, self.take = feed.ahead, feed.take
        self._batches_per_epoch = batches_per_epoch

    def epoch_of(self, batch: int) -> int:
        """An iterator's one pass is one epoch."""
        return batch // self._batches_per_epoch if self._batches_per_epoch else 0


def _gathering(prepared: Prepared, meeting: Meeting | None) -> Gathering | None:
    """How the state is gathered where no process has all of it."""
    if meeting is None or not cut_leaves(prepared.state):
        return None
    return Gathering(prepared.step.mesh, keeps=meeting.process_id == 0)


def _evaluation(program: Program, plan: Plan, whole: Whole, *, together: bool) -> Evaluation | None:
    evaluate = program.evaluate
    if evaluate is None:
        return None

    def measure(state: TrainState) -> Mapping[str, Any]:
        # On several processes each measures by itself, and all come to the same.
        return evaluate(local_view(whole(state.params)))

    return Evaluation(
        measure=measure,
        every_steps=plan.evaluate_every_steps,
        at_start=True,
        together=together,
    )


def _unchanged(state: TrainState, _step: int) -> TrainState:
    return replace(state, optimizer=None)


def _unbegun(directories: Sequence[Path]) -> Result:
    found = []
    for directory in directories:
        with contextlib.suppress(OSError):
            found += files.durable(directory)[:1]
    newest = max(found, key=lambda checkpoint: checkpoint.step, default=None)
    return Result(
        reason=FinishReason.DECIDED,
        step=0,
        batches=0,
        masked_slots=0,
        skipped_batches=0,
        loss=math.nan,
        state_digest="",
        durable=False,
        durable_step=newest.step if newest else -1,
        checkpoint=str(newest.path) if newest else "",
    )
