"""What is done when a first remedy was not enough, and when the same symptom has another cause."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.decision import charge, suppose
from trainerd.daemon.supervision.faults import Fault, Phase
from trainerd.daemon.supervision.policy import Action, FaultClass, Policy, Rule
from unit.daemon.judging import DEFAULT, A, F, after, fault, judge

# F1, F2, F3: what the step cannot deal with alone is put to the supervisor, one stage after
# the other. The same symptom leads to another action by what was tried before.


@pytest.mark.parametrize(
    ("fault_class", "delegated", "action"),
    [
        (F.NON_FINITE_MICROBATCH, A.MASK, A.SKIP),
        (F.NON_FINITE_MICROBATCH, None, A.SKIP),
        (F.NON_FINITE_MICROBATCH, A.SKIP, A.ROLLBACK),
        (F.NON_FINITE_STEP, A.SKIP, A.ROLLBACK),
        (F.NON_FINITE_STEP, None, A.ROLLBACK),
        (F.LOSS_SPIKE, A.SKIP, A.ROLLBACK),
        (F.DATA_ERROR, A.SKIP, A.FAIL),
    ],
)
def test_an_allowance_that_is_spent_is_not_delegated_any_more(
    fault_class: FaultClass, delegated: Action | None, action: Action
) -> None:
    asked = fault(fault_class, delegated=delegated, awaits_decision=True)
    decision = judge(asked)

    assert decision.action is action
    assert decision.reason.startswith(f"what happened ({fault_class.value} 1 in 600 s, limit")
    assert decision.rollback_steps == (20 if action is A.ROLLBACK else 0)
    if action is A.SKIP:
        assert "whole batches are left out for 600 s" in decision.reason
    if delegated is not None:
        assert judge(replace(asked, awaits_decision=False)).action is delegated


ROLLED = [F.NON_FINITE_MICROBATCH, F.NON_FINITE_STEP, F.LOSS_SPIKE]


@pytest.mark.parametrize("fault_class", ROLLED)
def test_a_second_rollback_for_a_class_without_progress_ends_the_run(
    fault_class: FaultClass,
) -> None:
    asked = fault(fault_class, delegated=A.SKIP, awaits_decision=True)
    back = Budgets().rolled_back(fault_class, from_step=50, now=900.0)
    again = judge(asked, budgets=back)

    assert again.action is A.FAIL
    assert f"rolled back for {fault_class.value} 100 s ago, without a new" in again.reason
    assert judge(asked, budgets=back.progressed(50)).action is A.FAIL
    assert judge(asked, budgets=back.progressed(51)).action is A.ROLLBACK
    assert judge(asked, budgets=back, now=1500.0).action is A.ROLLBACK
    for other in ROLLED:
        if other is not fault_class:
            assert judge(replace(asked, fault_class=other), budgets=back).action is A.ROLLBACK


def test_a_rollback_counts_as_a_cycle_and_comes_to_an_end_as_restarts_do() -> None:
    asked = fault(F.NON_FINITE_STEP, delegated=A.SKIP, awaits_decision=True)
    budgets = charge(DEFAULT, Budgets(cycles=1), asked, judge(asked), now=1000.0)

    assert budgets.cycles == 2
    assert "recovery 3 since the last" in judge(asked, budgets=budgets).reason
    stuck = judge(asked, budgets=budgets._replace(cycles=3))
    assert stuck.action is A.FAIL
    assert stuck.reason.startswith("no_progress: 3 recoveries without a new recoverable step")


@pytest.mark.parametrize(
    "fault_class", [F.NON_FINITE_STEP, F.LOSS_SPIKE, F.DATA_ERROR, F.STEP_EXCEPTION]
)
def test_a_policy_may_roll_back_at_once_as_many_steps_as_it_says(fault_class: FaultClass) -> None:
    policy = Policy(rules={fault_class: Rule(action=A.ROLLBACK, limit=3)}, rollback_steps=7)
    asked = fault(fault_class, batch=3, awaits_decision=True)
    decision = judge(asked, policy=policy)

    assert (decision.action, decision.rollback_steps) == (A.ROLLBACK, 7)
    assert decision.scope == "process"
    assert "at least 7 steps older" in decision.reason
    assert judge(asked, policy=policy, budgets=after(3, fault_class)).action is A.FAIL


def test_nobody_who_waits_nobody_to_roll_back() -> None:
    policy = Policy(rules={F.DATA_ERROR: Rule(action=A.ROLLBACK, limit=3)})

    assert judge(fault(F.DATA_ERROR), policy=policy).action is A.RESTART


def test_what_skips_already_is_not_told_to_skip() -> None:
    policy = Policy(rules={F.DATA_ERROR: Rule(action=A.SKIP, limit=3, then=A.SKIP)})
    asked = fault(F.DATA_ERROR, delegated=A.SKIP, awaits_decision=True)

    assert judge(asked, policy=policy).action is A.ROLLBACK


@pytest.mark.parametrize(
    ("before", "action"),
    [(0, A.MASK), (7, A.MASK), (8, A.SKIP), (16, A.SKIP), (17, A.ROLLBACK)],
)
def test_a_policy_that_was_not_in_force_counts_masks_and_then_as_many_skips(
    before: int, action: Action
) -> None:
    budgets = after(before, F.NON_FINITE_MICROBATCH)
    for delegated, awaits in ((A.MASK, False), (A.SKIP, True), (None, False)):
        seen = fault(F.NON_FINITE_MICROBATCH, delegated=delegated, awaits_decision=awaits)
        assert judge(seen, budgets=budgets, by=suppose).action is action


# F6: the cure for a want of memory is not the one for a broken device.


@pytest.mark.parametrize(
    ("slot_parts", "fields", "action", "parts", "reason"),
    [
        (0, {}, A.RESTART, 2, "computed in 2 parts from now on"),
        (1, {}, A.RESTART, 2, "computed in 2 parts from now on"),
        (2, {}, A.RESTART, 4, "cut 2, limit 2; recovery 1"),
        (4, {}, A.FAIL, 0, "although each slot was cut 2 times, limit 2"),
        (0, {"reason": "indivisible"}, A.FAIL, 0, "in one piece cannot be cut further"),
        (2, {"reason": "indivisible"}, A.FAIL, 0, "in 2 parts cannot be cut further"),
    ],
)
def test_out_of_memory_halves_the_slots_twice(
    slot_parts: int, fields: dict[str, Any], action: Action, parts: int, reason: str
) -> None:
    exhausted = fault(F.DEVICE_OOM, awaits_decision=True, state_intact=False, **fields)
    decision = judge(exhausted, slot_parts=slot_parts)

    assert (decision.action, decision.slot_parts) == (action, parts)
    assert reason in decision.reason


def test_out_of_memory_is_counted_in_parts_and_not_in_a_window() -> None:
    exhausted = fault(F.DEVICE_OOM, awaits_decision=True)
    thrice = Policy(rules={F.DEVICE_OOM: Rule(action=A.RESTART, limit=3)})
    never = Policy(rules={F.DEVICE_OOM: Rule(action=A.FAIL)})

    assert judge(exhausted, budgets=after(9, F.DEVICE_OOM)).action is A.RESTART
    assert judge(exhausted, slot_parts=4, policy=thrice).slot_parts == 8
    assert judge(exhausted, slot_parts=8, policy=thrice).action is A.FAIL
    assert judge(exhausted, policy=never).reason == "the policy fails a run on device_oom"
    assert judge(exhausted, budgets=Budgets(cycles=3)).slot_parts == 0


def test_each_phase_has_its_own_window_of_hangs() -> None:
    hung = fault(F.HANG, phase=Phase.RESTORE)
    budgets = Budgets()
    for _ in range(3):
        budgets = budgets.charged(hung, DEFAULT.rule(F.HANG), now=999.0)

    decision = judge(hung, budgets=budgets)
    assert (decision.action, decision.reason) == (
        A.FAIL,
        "hang in phase restore 4 in 600 s, limit 3",
    )
    assert judge(replace(hung, phase=Phase.STEP), budgets=budgets).action is A.RESTART


# The same symptom, another cause.


@pytest.mark.parametrize(
    ("one", "action", "other", "else_action"),
    [
        # NaN: one slot of many, or the whole update.
        (
            fault(F.NON_FINITE_MICROBATCH, slots=(2,)), A.MASK,
            fault(F.NON_FINITE_STEP), A.SKIP,
        ),
        # RESOURCE_EXHAUSTED: too large a slot, or one that cannot be smaller.
        (
            fault(F.DEVICE_OOM, awaits_decision=True), A.RESTART,
            fault(F.DEVICE_OOM, awaits_decision=True, reason="indivisible"), A.FAIL,
        ),
        # A batch that cannot be had: its source, or a program that is wrong from the start.
        (
            fault(F.DATA_ERROR, batch=3), A.SKIP,
            fault(F.PEER_LOST, batch=3), A.RESTART,
        ),
        # A checkpoint that is damaged: one of several, or the last.
        (
            fault(F.CHECKPOINT_CORRUPT), A.CONTINUE,
            fault(F.CHECKPOINT_CORRUPT, awaits_decision=True), A.FAIL,
        ),
    ],
)  # fmt: skip
def test_the_same_symptom_with_another_cause_is_dealt_with_otherwise(
    one: Fault, action: Action, other: Fault, else_action: Action
) -> None:
    assert (judge(one).action, judge(other).action) == (action, else_action)


def test_the_same_exception_is_judged_by_when_and_where_it_is_raised() -> None:
    raised = fault(F.STEP_EXCEPTION, batch=7, awaits_decision=True)
    goes_on = Policy(continue_on_error=True)
    seen = Budgets().charged(raised, DEFAULT.rule(F.STEP_EXCEPTION), now=999.0)

    assert judge(raised, trained=False, policy=goes_on).action is A.FAIL
    assert judge(raised).action is A.RESTART
    assert judge(raised, policy=goes_on).action is A.SKIP
    assert judge(replace(raised, state_intact=False), policy=goes_on).action is A.RESTART
    assert judge(raised, budgets=seen, policy=goes_on).action is A.FAIL
