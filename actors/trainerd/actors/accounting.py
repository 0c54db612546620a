"""Where a run stands, and what a landed step means: its record, its faults, its ledger entries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainerd.actors.budget import Budget
from trainerd.actors.ledger import Entry, Ledger, Omission
from trainerd.actors.pipeline import Landing
from trainerd.actors.plan import Plan, Rule
from trainerd.actors.reports import Fault, FaultClass, Phase, StepRecord, Verdict
from trainerd.actors.spikes import LossHistory
from trainerd.actors.step import Settings
from trainerd.actors.work import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A fault that the step dealt with itself. `why_asked`: it needs a decision all the same."""

    fault: Fault
    why_asked: str = ""


class Account:
    """Counts steps, batches, masks and skips. Owned by the loop.

    `step` is applied updates, `cursor` the next batch to feed.
    """

    def __init__(
        self, plan: Plan, *, slot_examples: int, ledger: Ledger, position: Position
    ) -> None:
        for entry in position.entries:
            ledger.add(entry)
        self.step, self.cursor, self.loss = position.step, position.cursor, position.loss
        # The totals follow from the ledger.
        self.masked_slots = ledger.masked_before(position.cursor)
        self.skipped_batches = ledger.skipped_before(position.cursor)
        self.ledger = ledger
        self._slot_examples = slot_examples
        self._history = LossHistory(plan.spike, position.losses) if plan.spike else None
        self._rules: dict[FaultClass, tuple[Rule, Budget]] = {
            kind: (rule, Budget(rule))
            for kind, rule in (
                (FaultClass.NON_FINITE_MICROBATCH, plan.non_finite_microbatch),
                (FaultClass.NON_FINITE_STEP, plan.non_finite_step),
                (FaultClass.LOSS_SPIKE, plan.loss_spike),
                (FaultClass.DATA_ERROR, plan.data_error),
                (FaultClass.STEP_EXCEPTION, plan.step_exception),
            )
        }
        self._masks = plan.non_finite_microbatch.action is Verdict.MASK
        self._settings = Settings.of(steps=plan.steps, mask=self._masks)

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
        applied = bool(outputs.applied)
        weights = landing.loaded.weights
        counted = np.asarray(outputs.counted)
        count = int(np.count_nonzero(counted))
        absent: tuple[int, ...] = ()
        if count != np.count_nonzero(weights):
            absent = _slots((weights > 0) & ~counted)
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
            for _, budget in self._rules.values():
                budget.progressed()
        else:
            incident = self._skipped(landing, now)
            self._pass_over(batch)
            self.skipped_batches += 1
        record = StepRecord(
            step=self.step,
            batch=batch,
            applied=applied,
            loss=float(outputs.loss),
            gradient_norm=float(outputs.gradient_norm),
            metrics={name: float(value) for name, value in outputs.metrics.items()},
            duration_s=landing.duration_s,
            data_wait_s=landing.data_wait_s,
            examples=count * self._slot_examples if applied else 0,
            masked_slots=absent if applied else (),
            total_skipped_batches=self.skipped_batches,
            total_masked_slots=self.masked_slots,
        )
        return record, incident

    def give_up(self, batch: int, fault: Fault, now: float) -> Incident:
        """Skip a batch whose step raised and left the state whole."""
        incident = self._skip(batch, fault, now)
        self._pass_over(batch)
        self.skipped_batches += 1
        return incident

    def decided_to_go_on(self, fault_class: FaultClass) -> None:
        """Somebody looked at the faults of this class: their budget begins anew."""
        self._rules[fault_class][1].renew()

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
            delegated=Verdict.MASK,
        )
        return self._spend(fault, now)

    def _skipped(self, landing: Landing, now: float) -> Incident:
        batch, error = landing.loaded.batch, landing.loaded.error
        outputs = landing.outputs
        bad = _slots((landing.loaded.weights > 0) & ~np.asarray(outputs.finite))
        kind, slots = FaultClass.NON_FINITE_STEP, bad
        suggestion, detail = "", ""
        if error is not None:
            kind, slots = FaultClass.DATA_ERROR, ()
            message, suggestion, detail = error.message, error.suggestion, error.detail
        elif bad and not self._masks:
            kind = FaultClass.NON_FINITE_MICROBATCH
            message = f"batch {batch}: loss or gradient of {_named(bad)} is not finite"
        elif not float(outputs.weight) > 0:
            message = f"batch {batch}: no slot counted"
        elif bool(outputs.spiked):
            kind = FaultClass.LOSS_SPIKE
            message = f"batch {batch}: loss {float(outputs.loss):g} is a spike"
        else:
            message = (
                f"batch {batch}: loss {float(outputs.loss):g} and gradient norm "
                f"{float(outputs.gradient_norm):g} are not both finite"
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
        return self._skip(batch, fault, now)

    def _skip(self, batch: int, fault: Fault, now: float) -> Incident:
        self._enter(batch, None, fault.fault_class, Omission.SKIP)
        if self._rules[fault.fault_class][0].action is not Verdict.SKIP:
            return Incident(fault=fault, why_asked="the policy does not skip these alone")
        return self._spend(replace(fault, delegated=Verdict.SKIP), now)

    def _spend(self, fault: Fault, now: float) -> Incident:
        why = self._rules[fault.fault_class][1].spend(now)
        if not why:
            return Incident(fault=fault)
        return Incident(fault=replace(fault, message=f"{fault.message} ({why})"), why_asked=why)

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


def _slots(mask: np.ndarray[Any, Any]) -> tuple[int, ...]:
    return tuple(int(slot) for slot in np.flatnonzero(mask))


def _named(slots: Iterable[int]) -> str:
    names = [str(slot) for slot in slots]
    return f"slot {names[0]}" if len(names) == 1 else f"slots {', '.join(names)}"
