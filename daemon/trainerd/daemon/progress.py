"""Turns what telemetry says of memory snapshots into an event, where budgets depend on it."""

from __future__ import annotations

from trainerd.daemon.supervision.events import Progressed
from trainerd.daemon.supervision.state import Run


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
    return Progressed(run=run.id, incarnation=run.trainer.incarnation, step=snapshot_step)
