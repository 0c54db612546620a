"""A program under the loop: what the trainer actor runs, and `Engine.fit_program`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from trainerd.actors import checkpoint_files as files
from trainerd.actors.compiled import CompiledStep
from trainerd.actors.conduct import conduct
from trainerd.actors.control import Word
from trainerd.actors.faults import classify
from trainerd.actors.feed import Feed, Loaded
from trainerd.actors.hooks import Audience
from trainerd.actors.ledger import Entry, Ledger
from trainerd.actors.loop import Ending, Surroundings
from trainerd.actors.plan import Plan
from trainerd.actors.preparation import Prepared, loader, prepare
from trainerd.actors.program import Program
from trainerd.actors.reports import Controls, FinishReason, Phase, Quiet, Reporter, Result
from trainerd.actors.stage import Stage
from trainerd.actors.state import TrainState
from trainerd.actors.step import Outputs, Settings
from trainerd.actors.work import Evaluation, Position, Work

_FEED_CLOSE_S = 5.0


def run_loop(
    program: Program,
    plan: Plan,
    *,
    checkpoint_directory: Path,
    restore_directories: Sequence[Path] = (),
    ledger: Iterable[Entry] = (),
    reporter: Reporter | None = None,
    controls: Controls | None = None,
    clock: Callable[[], float] = time.monotonic,
    devices: Sequence[jax.Device] | None = None,
) -> Result:
    """Train `program` as `plan` says, from the newest checkpoint or from the beginning.

    Checkpoints go to `checkpoint_directory`; the newest sound one of it and of
    `restore_directories` is continued. `ledger` holds what the run's journal knows to be left out,
    beside what the checkpoint says. `devices`: all there are, by default. Returns why it ended; a
    fault that needs a decision is put to `reporter.decide`, and never raised.

    `reporter` stays beside the program's callbacks, not one of them: it answers for faults, which
    a callback cannot, and hears of phases and saves before and after any callback runs.
    """
    reporter = reporter or Quiet()
    around = Surroundings(
        reporter=reporter,
        controls=controls or Controls(),
        stage=Stage(reporter),
        audience=Audience(callbacks=program.callbacks, faulted=reporter.faulted),
        clock=clock,
    )
    try:
        prepared = prepare(
            program,
            plan,
            devices=devices or jax.devices(),
            directories=[checkpoint_directory, *restore_directories],
            reporter=reporter,
            enter=around.stage.enter,
        )
    except Exception as error:
        phase = around.stage.phase
        reporter.decide(classify(error, phase=phase, step=0, state_intact=True))
        around.stage.enter(Phase.DRAIN, 0)
        return _unbegun(checkpoint_directory)
    ending = train(
        program, plan, prepared, around, ledger=Ledger(ledger), directory=checkpoint_directory
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
) -> Ending:
    """Run the loop on a prepared program, whose data is closed at the end."""
    feed = Feed()
    feed.start(loader(program, prepared), ended=prepared.batches.close)
    restored = prepared.restored
    work = Work(
        state=prepared.state,
        step=_ProgramStep(prepared.step),
        supply=_ProgramSupply(feed, prepared.batches.batches_per_epoch),
        slots=prepared.slot_plan.slots,
        slot_examples=prepared.slot_plan.slot_examples,
        position=Position.of(restored) if restored else Position(),
        form=_unchanged,
        reading=prepared.batches.position,
        evaluation=_evaluation(program, plan),
    )
    try:
        return conduct(work, plan, around, ledger=ledger, directory=directory)
    finally:
        feed.close(_FEED_CLOSE_S)


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
    ) -> tuple[TrainState, Outputs]:
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


def _evaluation(program: Program, plan: Plan) -> Evaluation | None:
    evaluate = program.evaluate
    if evaluate is None:
        return None

    def measure(state: TrainState) -> Mapping[str, Any]:
        return evaluate(state.params)

    return Evaluation(measure=measure, every_steps=plan.evaluate_every_steps, at_start=True)


def _unchanged(state: TrainState, _step: int) -> TrainState:
    return replace(state, optimizer=None)


def _unbegun(directory: Path) -> Result:
    newest = None
    with contextlib.suppress(OSError):
        newest = next(iter(files.committed(directory)), None)
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
