"""Turns what of telemetry must outlive the daemon into events: progress that budgets depend on,
and a run's first loss."""

from __future__ import annotations

import math

from trainerd.daemon.supervision.events import FirstLossHeard, Progressed
from trainerd.daemon.supervision.state import Run
from trainerd.v1 import trainer_pb2


def progressed(run: Run, snapshot_step: int) -> Progressed | None:
    """The event of a snapshot that is progress for a run that has something to make up for.

    `snapshot_step` 0: there is no snapshot.

    A healthy run takes a snapshot every few seconds: nothing is journalled for it.
    """
    budgets = run.budgets
    owes = budgets.cycles or budgets.rollbacks or any(budgets.consecutive.values())
    newest = max(0, run.recoverable_step, budgets.left)
    if not owes or run.trainer is None or snapshot_step <= newest:
        return None
    trainer = run.trainer
    return Progressed(
        run=run.id, incarnation=trainer.incarnation, step=snapshot_step, host=trainer.host
    )


def first_loss(run: Run, report: trainer_pb2.StepReport) -> FirstLossHeard | None:
    """The event of a run's first finite loss, which no daemon has heard before."""
    if run.first_loss is not None or run.trainer is None or not math.isfinite(report.loss):
        return None
    return FirstLossHeard(
        run=run.id,
        incarnation=run.trainer.incarnation,
        step=report.step,
        loss=report.loss,
        host=run.trainer.host,
    )
