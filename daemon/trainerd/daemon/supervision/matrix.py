"""The fault matrix as people read it: beside each class its evidence, and what no rule can say.

Actions and budgets come from `policy.DEFAULT_RULES`; `ops/docs/faults.md` is generated from both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trainerd.daemon.supervision.policy import (
    DEFAULT_RULES,
    UNLIMITED,
    Action,
    FaultClass,
)

F = FaultClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One class. `action`, `recurs` and `budget` are sentences; empty: what the rule says."""

    number: str
    evidence: str
    action: str = ""
    recurs: str = ""
    budget: str = ""


MATRIX: Mapping[FaultClass, Row] = MappingProxyType(
    {
        F.NON_FINITE_MICROBATCH: Row(
            number="F1",
            evidence="loss or gradient of a slot with weight is NaN or infinite, seen inside the "
            "step",
            action="**mask**: the slot is left out, the mean is that of the others",
            recurs="**skip**: for the length of the window whole batches with such a slot are left "
            "out; spent again: **rollback**; again: **fail**",
        ),
        F.NON_FINITE_STEP: Row(
            number="F2",
            evidence="loss or gradient norm of the whole update is NaN or infinite",
            action="**skip**: the batch is left out, the state is as if it had never been fed",
        ),
        F.LOSS_SPIKE: Row(
            number="F3",
            evidence="with `loss_spike_z` set: the loss lies so many deviations above the median "
            "of its own finite history",
            action="**skip**: the batch is left out, its loss does not enter the history",
        ),
        F.DATA_ERROR: Row(
            number="F4",
            evidence="the data source raised for a batch",
            action="**skip**: the batch is left out, for ever: the ledger keeps it",
        ),
        F.STEP_EXCEPTION: Row(
            number="F5",
            evidence="the program raised, outside the data source",
            action="before the first good step **fail**; later **restart**, or with "
            "`continue_on_error` **skip** of the batch where the state in memory is whole",
            recurs="the same exception at the same batch as the one before: **fail**; too often: "
            "**fail**",
        ),
        F.DEVICE_OOM: Row(
            number="F6",
            evidence="the device's memory is exhausted (`RESOURCE_EXHAUSTED`)",
            action="**restart** with each slot computed in twice as many parts; the same curve "
            "within rounding for a loss that draws nothing",
            recurs="**fail**, at once where a slot cannot be cut further",
            budget="{limit} times in the run's life: parts of a half, then of a quarter",
        ),
        F.DEVICE_ERROR: Row(
            number="F7",
            evidence="the device or its runtime failed (`INTERNAL`, `DATA_LOSS`, `UNAVAILABLE`)",
        ),
        F.CRASH: Row(
            number="F8",
            evidence="the process ended by an exit code or a signal that is not ours, or could not "
            "be started",
        ),
        F.HANG: Row(
            number="F9",
            evidence="no progress within the deadline of its phase, judged from outside; or its "
            "link is gone for a minute",
            action="the stacks of its threads are kept, it is killed: **restart**",
            budget="{budget}, for each phase by itself",
        ),
        F.PEER_LOST: Row(
            number="F10",
            evidence="a collective or the coordination service failed, because another process of "
            "the gang did first",
            action="all processes are ended at once, and the one that failed first is charged; "
            "where nobody did: **restart**",
        ),
        F.HOST_LOST: Row(
            number="F11",
            evidence="the link to a host's daemon is lost, and the gang stands still",
            action="**reform** with the hosts that are left, at least `[hosts] min`, with the same "
            "global batch; it grows back when the host returns",
            recurs="**reform** without that host, until `trainerctl undrain`; fewer than "
            "`[hosts] min` for `[hosts] wait_s` (600 s): **fail**",
            budget="none; of each host {limit} in 3600 s",
        ),
        F.CHECKPOINT_SAVE_FAILED: Row(
            number="F12",
            evidence="a checkpoint could not be made durable; the reason is counted",
            action="**continue**: training goes on, the save is tried again with back-off, or in "
            "`checkpoint.fallback_directory`",
            recurs="where the run file says so: **pause** or **fail**; the last state of a run: "
            "**pause**, and **fail** after `checkpoint.final_save_hold_s` (3600 s)",
            budget="none; `checkpoint.max_failures` in a row, `checkpoint.max_age_s`; for the last "
            "state `checkpoint.final_save_timeout_s` (120 s)",
        ),
        F.CHECKPOINT_CORRUPT: Row(
            number="F13",
            evidence="a checkpoint's digests or structure are wrong",
            action="**continue**: it is marked and passed over, the next older one is used; one "
            "that cannot be read is passed over and left as it is",
            recurs="none is left: **fail**; where there may be good ones that cannot be read: "
            "**restart**, with back-off, until `max_cycles_without_progress`",
        ),
        F.PREEMPTION: Row(
            number="F14",
            evidence="the host asks the trainer to go (SIGTERM)",
            action="it saves and ends; the run is queued and goes on later",
            recurs="the same",
            budget="none, not charged",
        ),
        F.VOLUNTARY: Row(
            number="F15",
            evidence="an operator asked for a restart (`trainerctl restart`)",
            action="it saves and ends; a new process goes on",
            recurs="the same",
            budget="none, not charged",
        ),
        F.NO_PROGRESS: Row(
            number="F16",
            evidence="restarts and rollbacks without a state to go on from above every earlier "
            "one: a checkpoint, or a memory snapshot (of sharded state: that every process has)",
            action="**fail**",
            recurs="–",
            budget="`max_cycles_without_progress`: {cycles}",
        ),
        F.DAEMON_CRASH: Row(
            number="F17",
            evidence="the daemon was killed: the next one finds no end of it in the journal",
            action="training goes on; the next daemon reads its journal and takes the trainer over",
            recurs="the same",
            budget="none, not charged",
        ),
        F.JOURNAL_FULL: Row(
            number="F18",
            evidence="the journal cannot be written",
            action="requests are refused, training goes on, reports are sent again",
            recurs="the same, until there is space",
            budget="none, not charged",
        ),
    }
)


def action_of(fault_class: FaultClass) -> str:
    """What is done about the first one."""
    rule = DEFAULT_RULES.get(fault_class)
    return MATRIX[fault_class].action or f"**{rule.action.value if rule else Action.FAIL.value}**"


def recurrence_of(fault_class: FaultClass) -> str:
    """What is done when its budget is spent."""
    row, rule = MATRIX[fault_class], DEFAULT_RULES.get(fault_class)
    if row.recurs or rule is None:
        return row.recurs or "–"
    if rule.then is Action.ROLLBACK:
        return "**rollback**; again before a checkpoint above the step it went back from: **fail**"
    return f"**{rule.then.value}**"


def budget_of(fault_class: FaultClass, *, cycles: int) -> str:
    """How many of it are too many; `cycles`: `max_cycles_without_progress`."""
    row, rule = MATRIX[fault_class], DEFAULT_RULES.get(fault_class)
    if rule is None:
        return row.budget.format(cycles=cycles) or "–"
    budget = "none" if rule.limit >= UNLIMITED else f"{rule.limit} in {rule.window_s:g} s"
    if rule.consecutive:
        budget += f", and fewer than {rule.consecutive} in a row"
    return row.budget.format(budget=budget, limit=rule.limit) if row.budget else budget
