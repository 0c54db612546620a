"""What tests of the decision begin with: a fault, budgets, and a verdict with defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from trainerd.daemon.supervision.budget import Account, Budgets
from trainerd.daemon.supervision.decision import decide
from trainerd.daemon.supervision.faults import Decision, Fault
from trainerd.daemon.supervision.policy import Action, FaultClass, Policy

F, A = FaultClass, Action
DEFAULT = Policy()


def fault(fault_class: FaultClass, **fields: Any) -> Fault:
    return replace(Fault(fault_class=fault_class, message="what happened"), **fields)


def judge(
    the_fault: Fault,
    *,
    policy: Policy = DEFAULT,
    budgets: Budgets | None = None,
    now: float = 1000.0,
    trained: bool = True,
    age_s: float = 0.0,
    slot_parts: int = 0,
    spread: float = 0.0,
    by: Callable[..., Decision] = decide,
) -> Decision:
    return by(
        policy,
        budgets or Budgets(),
        the_fault,
        now=now,
        trained=trained,
        checkpoint_age_s=age_s,
        slot_parts=slot_parts,
        spread=spread,
    )


def after(count: int, of: Account, *, at: float = 999.0) -> Budgets:
    return Budgets(windows={of: (at,) * count})
