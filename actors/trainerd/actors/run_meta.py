"""Where a run stands, as its checkpoints and snapshots hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainerd.actors.accounting import Account
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.plan import Plan
from trainerd.actors.work import Work


def meta_of(
    account: Account, plan: Plan, work: Work, made_by: Mapping[str, Any] | None = None
) -> CheckpointMeta:
    """What stands beside a state that is at rest."""
    return CheckpointMeta(
        run_id=plan.run_id,
        batch=account.cursor,
        slots=work.slots,
        global_batch=plan.global_batch,
        seed=plan.seed,
        loss=account.loss,
        masked_slots=account.masked_slots,
        skipped_batches=account.skipped_batches,
        ledger=account.ledger.entries,
        losses=account.losses,
        data=work.reading(account.cursor),
        metrics=account.metrics,
        evaluation=account.evaluation,
        specification=plan.specification,
        made_by=made_by or {},
    )
