"""Training again up to a batch that a fault happened at: does it happen again?"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta, read_meta
from trainerd.actors.checkpoint_past import superseded
from trainerd.actors.errors import CheckpointsDamagedError, CheckpointsUnreadableError
from trainerd.actors.faults import classify
from trainerd.actors.hooks import Audience
from trainerd.actors.ledger import Entry, Ledger
from trainerd.actors.plan import Plan
from trainerd.actors.preparation import Prepared, prepare
from trainerd.actors.program import Program
from trainerd.actors.program_loop import train
from trainerd.actors.reports import (
    Controls,
    Fault,
    FaultClass,
    FinishReason,
    Judgement,
    Phase,
    RollbackRecord,
    SaveRecord,
    StepRecord,
    Verdict,
)
from trainerd.actors.stage import Stage
from trainerd.actors.surroundings import Surroundings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a fault happened to: its class and batch, what was left out before it, and the
    checkpoint that was kept for it (None: none)."""

    fault_class: FaultClass
    batch: int
    left_out: tuple[Entry, ...]
    checkpoint: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a replay showed. `fault`: what it ended with, or what was dealt with at the batch.
    `source`: a checkpoint's path, or "init". Steps are applied updates."""

    happened: bool
    fault: Fault | None
    source: str
    first_step: int
    last_step: int


def replay(
    program: Program,
    plan: Plan,
    past: Past,
    *,
    directories: Sequence[Path],
    devices: Sequence[jax.Device] | None = None,
) -> Replay:
    """Train up to and including the batch of `past`, and say what happened there.

    Begins with the checkpoint kept for it; where that is gone, with the newest of `directories`
    that the run could have begun with then; else anew. Nothing is saved, and the program's
    callbacks and evaluation are left out. Faults are dealt with as `plan` says; whatever it would
    ask about ends the replay.
    """
    program = dataclasses.replace(program, callbacks=(), evaluate=None)
    witness = _Witness(past)
    around = Surroundings(
        reporter=witness,
        controls=witness.controls,
        stage=Stage(witness),
        audience=Audience(callbacks=(), faulted=witness.faulted),
        clock=time.monotonic,
    )
    try:
        prepared = _prepared(
            program,
            plan,
            past,
            around,
            directories=directories,
            devices=devices or jax.devices(),
        )
    except Exception as error:
        witness.decide(classify(error, phase=around.stage.phase, step=0, state_intact=True))
        return witness.showed(witness.first_step)
    ending = train(program, plan, prepared, around, ledger=Ledger(past.left_out), directory=None)
    if ending.raised is not None:
        raise ending.raised
    if ending.result.reason is FinishReason.DATA_ENDED:
        witness.data_ended(ending.result.batches)
    return witness.showed(ending.result.step)


def _prepared(
    program: Program,
    plan: Plan,
    past: Past,
    around: Surroundings,
    *,
    directories: Sequence[Path],
    devices: Sequence[jax.Device],
) -> Prepared:
    for places in (*([found.path] for found in beginnings(past, directories)), []):
        try:
            return prepare(
                program,
                plan,
                devices=devices,
                directories=places,
                reporter=around.reporter,
                enter=around.stage.enter,
                left_out=past.left_out,
            )
        except (CheckpointsDamagedError, CheckpointsUnreadableError) as error:
            _log.warning("%s", error.message)
    raise AssertionError("without a checkpoint none is refused")


def beginnings(past: Past, directories: Sequence[Path]) -> list[Checkpoint]:
    """The checkpoints that a replay may begin with, best first."""
    kept = past.checkpoint
    found = [] if kept is None else [Checkpoint(step=int(kept.name), path=kept)]
    others = [other for directory in directories for other in _durable(directory)]
    found += sorted(others, key=lambda checkpoint: checkpoint.step, reverse=True)
    return [checkpoint for checkpoint in found if _of_its_past(checkpoint, past)]


def _durable(directory: Path) -> list[Checkpoint]:
    try:
        return files.durable(directory)
    except OSError as error:
        _log.warning("checkpoints cannot be listed: %s", error)
        return []


def _of_its_past(checkpoint: Checkpoint, past: Past) -> bool:
    """Whether the run could have begun with a checkpoint and then come to the batch."""
    try:
        meta = read_meta(checkpoint.path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("checkpoint %s cannot be read: %s", checkpoint.path, error)
        return False
    before: CheckpointMeta = dataclasses.replace(meta, ledger=past.left_out)
    return (
        meta.batch <= past.batch
        and not superseded(meta, past.left_out)
        and not superseded(before, meta.ledger)
    )


class _Witness:
    """Stops the loop behind the batch, and remembers what happened. Implements `Reporter`."""

    def __init__(self, past: Past) -> None:
        self.controls = Controls()
        self.first_step = 0
        self._past = past
        self._source = "init"
        self._fault: Fault | None = None
        self._happened = False

    def showed(self, last_step: int) -> Replay:
        """What the replay showed."""
        return Replay(
            happened=self._happened,
            fault=self._fault,
            source=self._source,
            first_step=self.first_step,
            last_step=last_step,
        )

    def data_ended(self, batches: int) -> None:
        """There was no further batch."""
        self._see(
            Fault(
                fault_class=FaultClass.DATA_ERROR,
                message=f"the data ended after {batches} batches",
                batch=batches,
                phase=Phase.DRAIN,
                reason="data_ended",
            )
        )

    def restored(self, step: int, batch: int, source: str) -> None:  # noqa: ARG002
        """The state to begin with."""
        self.first_step, self._source = step, source

    def stepped(self, record: StepRecord) -> None:
        """A batch has landed."""
        if record.batch >= self._past.batch:
            self.controls.stop(FinishReason.STOPPED, save=False)

    def faulted(self, fault: Fault) -> None:
        """A fault that was dealt with: of interest at the batch alone."""
        if fault.batch == self._past.batch:
            self._see(fault)
            self.controls.stop(FinishReason.STOPPED, save=False)

    def decide(self, fault: Fault) -> Judgement:
        """There is nobody to ask: the replay ends with it."""
        if fault.batch <= self._past.batch:
            self._see(fault)
        return Judgement(verdict=Verdict.FAIL)

    def _see(self, fault: Fault) -> None:
        if self._happened:
            return
        self._fault = fault
        self._happened = (fault.fault_class, fault.batch) == (
            self._past.fault_class,
            self._past.batch,
        )

    def entered(self, phase: Phase, step: int) -> None: ...

    def slots_fixed(self, slots: int) -> None: ...

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def saved(self, record: SaveRecord) -> None: ...

    def rolled_back(self, record: RollbackRecord) -> None: ...

    def paused(self, step: int) -> None: ...

    def resumed(self, step: int) -> None: ...
