"""Puts a loop together around a piece of work, runs it, and takes everything down again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainerd.actors.accounting import Account
from trainerd.actors.boundary import Boundary
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.company import Alone, Company
from trainerd.actors.following import Following
from trainerd.actors.holding import Holding, Holds
from trainerd.actors.ledger import Ledger
from trainerd.actors.loop import Loop
from trainerd.actors.plan import Plan
from trainerd.actors.reports import FinishReason, Phase
from trainerd.actors.saver import Saver, Saving, Unsaved
from trainerd.actors.saving_together import HoldingTogether, SavingTogether
from trainerd.actors.snapshotting import Snapshotting, Unsnapped
from trainerd.actors.surroundings import Ending, Surroundings
from trainerd.actors.work import Work


def conduct(
    work: Work,
    plan: Plan,
    around: Surroundings,
    *,
    ledger: Ledger,
    directory: Path | None,
    fallback: Path | None = None,
    crash_every_s: float = 0.0,
    snapshots: Snapshotting | None = None,
    company: Company | None = None,
    incarnation: int = 0,
) -> Ending:
    """Train; checkpoints go to `directory`, and to `fallback` while that one fails.

    None: there are no checkpoints; there is no fallback. `crash_every_s`: mean seconds between
    crashes of the run; 0: it does not crash. `company`: those who train the same with this process;
    the first of them saves. `incarnation`: of a run on several hosts; see `CheckpointStore`.
    """
    boundary, company = Boundary(around.controls), company or Alone(around.clock)
    account = Account(plan, slot_examples=work.slot_examples, ledger=ledger, position=work.position)

    def run(saver: Saving) -> Ending:
        holding: Holds = Following(plan, company=company, boundary=boundary, stage=around.stage)
        if company.leads:
            holding = Holding(
                plan,
                saver=saver,
                boundary=boundary,
                reporter=around.reporter,
                stage=around.stage,
                clock=around.clock,
                company=company,
            )
        if work.gathering is not None:
            saver = SavingTogether(saver, work.gathering, plan, work.position)
            holding = HoldingTogether(holding, work.gathering, around.stage)
        return Loop(
            work,
            plan,
            around,
            account=account,
            saver=saver,
            boundary=boundary,
            snapshots=snapshots or Unsnapped(),
            holding=holding,
            company=company,
        ).run()

    if directory is None or not company.leads:
        return run(Unsaved(boundary))
    store = CheckpointStore(
        directory,
        fallback=fallback,
        retention=replace(
            plan.retention, rollback_steps=0 if work.rewind is None else plan.rollback_steps
        ),
        listener=around.reporter,
        clock=around.clock,
        distrusted=work.position.passed_over,
        incarnation=incarnation,
        superseded=lambda: around.controls.stop(FinishReason.STOPPED, save=False),
    )
    if work.rewind is not None:
        # A process that died as it went back has left what is newer and not of this past.
        store.discard_superseded(work.position.step, account.ledger.entries)
    try:
        places = (directory,) if fallback is None else (directory, fallback)
        saver = Saver(
            store,
            plan,
            boundary,
            work,
            directories=places,
            clock=around.clock,
            crash_every_s=crash_every_s,
        )
        return run(saver)
    finally:
        around.stage.enter(Phase.DRAIN, account.step)
        store.close(plan.final_save_timeout_s)
