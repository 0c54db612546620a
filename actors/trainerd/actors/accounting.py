"""Where a run stands, and what a landed step means: its record, its faults, its ledger entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.delegation import Delegation, Incident
from trainerd.actors.ledger import Entry, Ledger, Omission
from trainerd.actors.pipeline import Landing
from trainerd.actors.plan import Plan
from trainerd.actors.reports import (
    Fault,
    FaultClass,
    FinishReason,
    Phase,
    Result,
    StepRecord,
    Verdict,
)
from trainerd.actors.rules import Rules
from trainerd.actors.spikes import LossHistory
from trainerd.actors.step import Settings
from trainerd.actors.work import Position


class Account:
    """Counts steps, batches, masks and skips. Owned by the loop.

    `step` is applied updates, `cursor` the next batch to feed. `metrics` is what the newest applied
    update measured, `evaluation` the newest evaluation since the run stands where it stands.
    """

    def __init__(
        self, plan: Plan, *, slot_examples: int, ledger: Ledger, position: Position
    ) -> None:
        for entry in position.entries:
            ledger.add(entry)
        self.ledger = ledger
        self._slot_examples = slot_examples
        self._history: LossHistory | None = None
        self.metrics: Mapping[str, float] = {}
        self.evaluation: Mapping[str, float] = {}
        self._delegation = Delegation(plan.rules)
        self._masks = self._delegation.masks(0.0)
        self._settings = Settings.of(steps=plan.steps, mask=self._masks)
        self._stand(position)
        self._watch(plan.rules, position.losses)

    @property
    def continues_on_error(self) -> bool:
        """Whether a batch whose step raises is skipped without asking."""
        return self._delegation.continues_on_error

    @property
    def losses(self) -> tuple[float, ...]:
        """What later thresholds of loss spikes depend on, oldest first."""
        return self._history.losses if self._history else ()

    def settings(self) -> Settings:
        """What the next step is to be dispatched with."""
        if self._history is None:
            return self._settings
        return Settings.of(
            steps=int(self._settings.steps),
            mask=self._masks,
            spike_step=self.step,
            spike_limits=self._history.limits,
        )

    def settle(self, landing: Landing, now: float) -> tuple[StepRecord, Incident | None]:
        """Book a landed step that was within the run's steps."""
        outputs, batch = landing.outputs, landing.loaded.batch
        applied, count = outputs.applied, int(outputs.count)
        # The host need not read an array that says nothing.
        absent = _slots(np.asarray(outputs.absent)) if outputs.absences else ()
        incident = None
        if applied:
            self.step += 1
            self.loss = float(outputs.loss)
            if self._history is not None:
                self._history.add(self.loss)
            fresh = tuple(slot for slot in absent if slot not in landing.forced)
            if fresh:
                incident = self._masked(batch, fresh, now)
            self._pass_over(batch)
            self.masked_slots += len(absent)
            self._delegation.applied()
        else:
            incident = self._skipped(landing, now)
            self._pass_over(batch)
            self.skipped_batches += 1
        if self._delegation.unsettled:
            self._choose(now)
        metrics = {name: float(value) for name, value in outputs.metrics.items()}
        if applied:
            self.metrics = metrics
        record = StepRecord(
            step=self.step,
            batch=batch,
            applied=applied,
            loss=float(outputs.loss),
            gradient_norm=float(outputs.gradient_norm),
            metrics=metrics,
            duration_s=landing.duration_s,
            data_wait_s=landing.data_wait_s,
            examples=count * self._slot_examples if applied else 0,
            masked_slots=absent if applied else (),
            total_skipped_batches=self.skipped_batches,
            total_masked_slots=self.masked_slots,
        )
        return record, incident

    def result(
        self,
        reason: FinishReason,
        *,
        state_digest: str,
        durable: bool,
        newest: Checkpoint | None,
    ) -> Result:
        """What the loop amounts to. `newest`: the newest durable checkpoint."""
        return Result(
            reason=reason,
            step=self.step,
            batches=self.cursor,
            masked_slots=self.masked_slots,
            skipped_batches=self.skipped_batches,
            loss=self.loss,
            state_digest=state_digest,
            durable=durable,
            durable_step=newest.step if newest else -1,
            checkpoint=str(newest.path) if newest else "",
        )

    def give_up(self, batch: int, fault: Fault, now: float) -> Incident:
        """Skip a batch whose step raised and left the state whole, as the rules allow."""
        self._leave_out(batch, fault.fault_class)
        return self._delegation.skipped(fault, now)

    def told_to_skip(self, batch: int, fault_class: FaultClass) -> None:
        """The same, as somebody decided."""
        self._leave_out(batch, fault_class)

    def decided(self, fault: Fault, verdict: Verdict, now: float) -> None:
        """Somebody looked at a fault whose allowance was spent: the run goes on."""
        self._delegation.decided(fault, verdict, now)
        self._choose(now)

    def again(self, incident: Incident, now: float) -> Incident:
        """The same incident, now that somebody has looked at its class since."""
        return self._delegation.again(incident, now)

    def adopt(self, rules: Rules, now: float) -> None:
        """Go by other rules from the next step on. No step is in flight."""
        losses = self.losses
        self._delegation.adopt(rules)
        self._choose(now)
        self._watch(rules, losses)

    def left_out_with(self, batch: int, fault_class: FaultClass) -> tuple[Entry, ...]:
        """All that is left out, and `batch` as a whole."""
        return (*self.ledger.entries, _left_out(batch, batch, fault_class))

    def go_back(self, position: Position, last_batch: int, fault_class: FaultClass) -> Entry:
        """Stand at an older state; leave out what was fed since, up to `last_batch`.

        Return the ledger entry that says so. Allowances begin anew.
        """
        entry = _left_out(min(position.cursor, last_batch), last_batch, fault_class)
        self.ledger.add(entry)
        self._stand(position)
        self.metrics, self.evaluation = {}, {}
        if self._history is not None:
            self._history = LossHistory(self._history.spike, position.losses)
        self._delegation.begin_anew()
        self._choose(0.0)
        return entry

    def _stand(self, position: Position) -> None:
        self.step, self.cursor, self.loss = position.step, position.cursor, position.loss
        # The totals follow from the ledger.
        self.masked_slots = self.ledger.masked_before(position.cursor)
        self.skipped_batches = self.ledger.skipped_before(position.cursor)

    def _watch(self, rules: Rules, losses: Iterable[float]) -> None:
        self._history = LossHistory(rules.spike, losses) if rules.spike else None

    def _choose(self, now: float) -> None:
        """Mask, or do not, as is right by now."""
        masks = self._delegation.masks(now)
        if masks is not self._masks:
            self._masks = masks
            self._settings = Settings.of(steps=int(self._settings.steps), mask=masks)

    def _leave_out(self, batch: int, fault_class: FaultClass) -> None:
        self._enter(batch, None, fault_class, Omission.SKIP)
        self._pass_over(batch)
        self.skipped_batches += 1

    def _pass_over(self, batch: int) -> None:
        """Move the cursor behind `batch`; ledger skips in between are counted."""
        self.skipped_batches += self.ledger.skipped_between(self.cursor, batch)
        self.cursor = batch + 1

    def _masked(self, batch: int, slots: tuple[int, ...], now: float) -> Incident:
        kind = FaultClass.NON_FINITE_MICROBATCH
        self._enter(batch, slots, kind, Omission.MASK)
        fault = Fault(
            fault_class=kind,
            message=f"batch {batch}: loss or gradient of {_named(slots)} is not finite; "
            "left out of the mean",
            step=self.step,
            batch=batch,
            phase=Phase.STEP,
            slots=slots,
        )
        return self._delegation.masked(fault, now)

    def _skipped(self, landing: Landing, now: float) -> Incident:
        batch, error = landing.loaded.batch, landing.loaded.error
        outputs = landing.outputs
        # What has no weight counts as finite.
        bad = _slots(~np.asarray(outputs.finite))
        kind, slots = FaultClass.NON_FINITE_STEP, bad
        suggestion, detail = "", ""
        if error is not None:
            kind, slots = FaultClass.DATA_ERROR, ()
            message, suggestion, detail = error.message, error.suggestion, error.detail
        elif bad and np.asarray(outputs.counted)[list(bad)].any():
            # They were not to be masked when this step was dispatched.
            kind = FaultClass.NON_FINITE_MICROBATCH
            message = f"batch {batch}: loss or gradient of {_named(bad)} is not finite"
        elif not outputs.weight > 0:
            message = f"batch {batch}: no slot counted"
        elif outputs.spiked:
            kind = FaultClass.LOSS_SPIKE
            message = f"batch {batch}: loss {outputs.loss:g} is a spike"
        else:
            message = (
                f"batch {batch}: loss {outputs.loss:g} and gradient norm "
                f"{outputs.gradient_norm:g} are not both finite"
            )
        fault = Fault(
            fault_class=kind,
            message=message,
            suggestion=suggestion,
            detail=detail,
            step=self.step,
            batch=batch,
            phase=Phase.STEP,
            slots=slots,
        )
        self._enter(batch, None, kind, Omission.SKIP)
        return self._delegation.skipped(fault, now)

    def _enter(
        self, batch: int, slots: tuple[int, ...] | None, kind: FaultClass, omission: Omission
    ) -> None:
        self.ledger.add(
            Entry(
                first_batch=batch,
                last_batch=batch,
                slots=slots,
                fault_class=kind,
                decision=omission,
            )
        )


def _left_out(first: int, last: int, kind: FaultClass) -> Entry:
    return Entry(
        first_batch=first, last_batch=last, slots=None, fault_class=kind, decision=Omission.SKIP
    )


def _slots(mask: np.ndarray[Any, Any]) -> tuple[int, ...]:
    return tuple(int(slot) for slot in np.flatnonzero(mask))


def _named(slots: Iterable[int]) -> str:
    names = [str(slot) for slot in slots]
    return f"slot {names[0]}" if len(names) == 1 else f"slots {', '.join(names)}"
