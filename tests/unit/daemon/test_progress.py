"""A memory snapshot is progress where a run has something to make up for, and nowhere else."""

from __future__ import annotations

import pytest

from trainerd.daemon.progress import progressed
from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.events import Progressed
from trainerd.daemon.supervision.policy import FaultClass, Policy
from trainerd.daemon.supervision.state import Run, Trainer

CRASHED = Budgets(cycles=1)


def run(budgets: Budgets, *, trainer: Trainer | None = None) -> Run:
    return Run(
        id="r",
        name="r",
        order=1,
        policy=Policy(),
        recoverable_step=40,
        incarnation=2,
        members={"": trainer or Trainer(incarnation=2)},
        budgets=budgets,
    )


@pytest.mark.parametrize(
    "budgets",
    [
        CRASHED,
        Budgets(consecutive={FaultClass.CRASH: 1}),
        Budgets(rollbacks={FaultClass.LOSS_SPIKE: 1.0}),
    ],
)
def test_above_what_could_be_restored_it_counts(budgets: Budgets) -> None:
    assert progressed(run(budgets), 41) == Progressed(run="r", incarnation=2, step=41)
    assert progressed(run(budgets), 40) is None


def test_a_healthy_run_journals_nothing_for_its_snapshots() -> None:
    assert progressed(run(Budgets()), 400) is None
    assert progressed(run(Budgets(consecutive={FaultClass.CRASH: 0})), 400) is None


def test_what_a_rollback_gave_up_is_no_progress_when_it_is_trained_anew() -> None:
    assert progressed(run(CRASHED._replace(left=60)), 60) is None
    assert progressed(run(CRASHED._replace(left=60)), 61) is not None


def test_a_run_without_a_trainer_cannot_progress() -> None:
    assert progressed(run(CRASHED)._replace(members={}), 400) is None


def test_no_snapshot_is_no_progress_even_where_nothing_could_be_restored_before() -> None:
    assert progressed(run(CRASHED)._replace(recoverable_step=-1), 0) is None
    assert progressed(run(CRASHED)._replace(recoverable_step=-1), 1) is not None
