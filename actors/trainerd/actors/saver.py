"""When and with what a run saves: the loop's side of the checkpoint store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from trainerd.actors.accounting import Account
from trainerd.actors.boundary import Boundary
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.plan import Plan
from trainerd.actors.state import TrainState

_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 8.0


class Saver:
    """Saves states at rest. Whoever has asked for a save by then is answered by it."""

    def __init__(
        self,
        store: CheckpointStore,
        plan: Plan,
        boundary: Boundary,
        *,
        slots: int,
        saved_step: int,
        made_by: Mapping[str, Any],
        clock: Callable[[], float],
    ) -> None:
        self._store, self._plan, self._boundary = store, plan, boundary
        self._slots, self._saved_step, self._made_by = slots, saved_step, made_by
        self._clock = clock

    def due(self, step: int) -> bool:
        """Whether a state that has reached `step` is to be saved, short of the final one."""
        if step >= self._plan.steps:
            return False
        regular = 0 < step != self._saved_step and step % self._plan.checkpoint_every_steps == 0
        return regular or self._store.wanted

    def save(self, state: TrainState, account: Account) -> None:
        """Begin to save; returns once the state's buffers may be donated."""
        self._boundary.asked()
        self._saved_step = account.step
        meta = CheckpointMeta(
            run_id=self._plan.run_id,
            batch=account.cursor,
            slots=self._slots,
            global_batch=self._plan.global_batch,
            seed=self._plan.seed,
            loss=account.loss,
            masked_slots=account.masked_slots,
            skipped_batches=account.skipped_batches,
            ledger=account.ledger.entries,
            made_by=self._made_by,
        )
        self._store.save(account.step, state, meta, self._boundary.take_save_ids())

    def save_durably(self, state: TrainState, account: Account) -> Checkpoint | None:
        """Save and wait, trying again with back-off until the plan's timeout.

        None: not durable in time, or a stop without saving was asked for meanwhile.
        """
        deadline_s = self._clock() + self._plan.final_save_timeout_s
        retry_s = _FIRST_RETRY_S
        while True:
            self.save(state, account)
            self._store.drain(max(0.0, deadline_s - self._clock()))
            saved = self._store.durable(account.step)
            left_s = deadline_s - self._clock()
            if saved is not None or left_s <= 0:
                return saved
            if self._store.wanted:
                # It had to wait for an older save, which is done now.
                continue
            if not self._boundary.asked().stop_saves:
                return None
            time.sleep(min(retry_s, left_s))
            retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
