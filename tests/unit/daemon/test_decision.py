"""The fault matrix, row by row: what is decided, and that the reason holds the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainerd.daemon.supervision.budget import Account, Budgets
from trainerd.daemon.supervision.decision import SCOPES, decide, suppose
from trainerd.daemon.supervision.policy import (
    ALLOWED_ACTIONS,
    DEFAULT_RULES,
    DELEGABLE,
    Action,
    FaultClass,
    Policy,
    Rule,
)
from unit.daemon.judging import DEFAULT, A, F, after, fault, judge

SPENT = {  # (limit, window in seconds, what then) of the default rules that count
    F.NON_FINITE_MICROBATCH: (8, 600, A.SKIP),
    F.NON_FINITE_STEP: (10, 600, A.ROLLBACK),
    F.LOSS_SPIKE: (5, 600, A.ROLLBACK),
    F.DATA_ERROR: (10, 600, A.FAIL),
    F.STEP_EXCEPTION: (10, 600, A.FAIL),
    F.DEVICE_ERROR: (3, 3600, A.FAIL),
    F.CRASH: (20, 600, A.FAIL),
    F.HANG: (3, 600, A.FAIL),
}


@pytest.mark.parametrize(
    ("fault_class", "awaits", "action", "numbers"),
    [
        (F.NON_FINITE_MICROBATCH, False, A.MASK, "1 in 600 s, limit 8"),
        (F.NON_FINITE_MICROBATCH, True, A.SKIP, "what happened (non_finite_microbatch 1 in 600 s"),
        (F.NON_FINITE_STEP, False, A.SKIP, "1 in 600 s, limit 10"),
        (
            F.NON_FINITE_STEP,
            True,
            A.ROLLBACK,
            "what happened (non_finite_step 1 in 600 s, limit 10)",
        ),
        (F.LOSS_SPIKE, False, A.SKIP, "1 in 600 s, limit 5"),
        (F.LOSS_SPIKE, True, A.ROLLBACK, "what happened (loss_spike 1 in 600 s, limit 5)"),
        (F.DATA_ERROR, False, A.SKIP, "1 in 600 s, limit 10"),
        (F.DATA_ERROR, True, A.FAIL, "what happened (data_error 1 in 600 s, limit 10)"),
        (F.STEP_EXCEPTION, True, A.RESTART, "1 in 600 s, limit 10; recovery 1"),
        (F.DEVICE_OOM, True, A.RESTART, "in 2 parts from now on"),
        (F.DEVICE_ERROR, True, A.RESTART, "1 in 3600 s, limit 3; recovery 1"),
        (F.CRASH, False, A.RESTART, "1 in 600 s, limit 20; recovery 1"),
        (F.HANG, False, A.RESTART, "1 in 600 s, limit 3; recovery 1"),
        (F.PEER_LOST, True, A.FAIL, "the policy fails a run on peer_lost"),
        (F.HOST_LOST, False, A.FAIL, "the policy fails a run on host_lost"),
        (F.CHECKPOINT_SAVE_FAILED, False, A.CONTINUE, "failed saves in a row: 1"),
        (F.CHECKPOINT_CORRUPT, False, A.CONTINUE, "checkpoint_corrupt 1 in 600 s"),
        (F.CHECKPOINT_CORRUPT, True, A.FAIL, "no good checkpoint is left: what happened"),
    ],
)
def test_the_first_fault_of_each_class(
    fault_class: FaultClass, awaits: bool, action: Action, numbers: str
) -> None:
    decision = judge(fault(fault_class, awaits_decision=awaits))

    assert decision.action is action
    assert numbers in decision.reason
    assert decision.scope == SCOPES[action]
    assert decision.delay_s == 0.0


def account(fault_class: FaultClass) -> Account:
    return (F.HANG, None) if fault_class is F.HANG else fault_class


@pytest.mark.parametrize("fault_class", SPENT)
def test_one_more_than_the_limit_in_the_window_is_escalated(fault_class: FaultClass) -> None:
    limit, window_s, then = SPENT[fault_class]
    numbers = f"{fault_class.value} {limit + 1} in {window_s} s, limit {limit}"
    of = account(fault_class)

    # What the step does alone it counts alone: the supervisor's own count is for suppositions.
    by = suppose if fault_class in DELEGABLE else decide
    at_limit = judge(fault(fault_class), budgets=after(limit - 1, of), by=by)
    beyond = judge(fault(fault_class), budgets=after(limit, of), by=by)
    later = judge(fault(fault_class), budgets=after(limit, of), now=999.0 + window_s, by=by)

    assert at_limit.action is DEFAULT_RULES[fault_class].action
    assert beyond.action is then
    assert beyond.reason.startswith(numbers)
    assert later.action is DEFAULT_RULES[fault_class].action


def test_three_in_a_row_are_escalated_whatever_the_window_says() -> None:
    budgets = Budgets(consecutive={F.NON_FINITE_STEP: 2})
    decision = judge(fault(F.NON_FINITE_STEP), budgets=budgets, by=suppose)

    assert decision.action is A.ROLLBACK
    assert decision.reason.startswith("non_finite_step 3 in a row, limit 2; back to a state")
    kept = judge(fault(F.NON_FINITE_STEP), budgets=budgets.progressed(1), by=suppose)
    assert kept.action is A.SKIP


def test_of_faults_that_cost_a_step_those_with_an_update_in_between_are_not_in_a_row() -> None:
    budgets, rule = Budgets(), DEFAULT.rule(F.NON_FINITE_STEP)
    for step in (4, 4, 5):
        budgets = budgets.charged(fault(F.NON_FINITE_STEP, step=step), rule, now=999.0)

    assert budgets.consecutive[F.NON_FINITE_STEP] == 1
    assert budgets.in_a_row(fault(F.NON_FINITE_STEP, step=5)) == 2
    assert budgets.in_a_row(fault(F.NON_FINITE_STEP, step=6)) == 1


def test_continue_on_error_does_not_go_on_for_ever() -> None:
    raised = fault(F.STEP_EXCEPTION, batch=7, awaits_decision=True)
    goes_on = Policy(continue_on_error=True)

    assert judge(raised, policy=goes_on, budgets=after(9, F.STEP_EXCEPTION)).action is A.SKIP
    spent = judge(raised, policy=goes_on, budgets=after(10, F.STEP_EXCEPTION))
    assert (spent.action, spent.reason) == (A.FAIL, "step_exception 11 in 600 s, limit 10")


def test_what_comes_too_often_may_lead_to_a_restart() -> None:
    rule = Rule(action=A.SKIP, limit=1, then=A.RESTART)
    policy = Policy(rules={F.DATA_ERROR: rule})
    decision = judge(fault(F.DATA_ERROR), policy=policy, budgets=after(1, F.DATA_ERROR))

    assert decision.action is A.RESTART
    assert "data_error 2 in 600 s, limit 1; recovery 1" in decision.reason


@pytest.mark.parametrize(
    ("cycles", "delay_s"), [(0, 0.0), (1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0)]
)
def test_the_back_off_doubles_up_to_its_longest(cycles: int, delay_s: float) -> None:
    policy = Policy(max_cycles_without_progress=100)

    assert judge(fault(F.CRASH), policy=policy, budgets=Budgets(cycles=cycles)).delay_s == delay_s


def test_a_back_off_is_a_little_shorter_for_some_so_that_they_do_not_march_in_step() -> None:
    budgets = Budgets(cycles=2)
    delays = [judge(fault(F.CRASH), budgets=budgets, spread=part).delay_s for part in (0, 0.5, 1)]

    assert delays == [2.0, 1.9, 1.8]


def test_a_back_off_after_very_many_cycles_is_still_a_number() -> None:
    policy = Policy(max_cycles_without_progress=10_000)

    assert judge(fault(F.CRASH), policy=policy, budgets=Budgets(cycles=5000)).delay_s == 60.0


@pytest.mark.parametrize("fault_class", [F.CRASH, F.HANG, F.DEVICE_ERROR, F.STEP_EXCEPTION])
def test_restarts_without_progress_end_the_run(fault_class: FaultClass) -> None:
    decision = judge(fault(fault_class), budgets=Budgets(cycles=3))

    assert decision.action is A.FAIL
    assert "no_progress: 3 recoveries without a new recoverable step, limit 3" in decision.reason


def test_an_exception_before_the_first_good_step_is_final() -> None:
    decision = judge(fault(F.STEP_EXCEPTION, batch=0, awaits_decision=True), trained=False)

    assert decision.action is A.FAIL
    assert "do not resubmit" in decision.reason


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        ({"batch": 7, "state_intact": True}, A.SKIP),
        ({"batch": 7, "state_intact": False}, A.RESTART),
        ({"batch": -1, "state_intact": True}, A.RESTART),
    ],
)
def test_continue_on_error_leaves_out_a_batch_where_the_state_is_whole(
    fields: dict[str, object], action: Action
) -> None:
    raised = fault(F.STEP_EXCEPTION, awaits_decision=True, **fields)

    assert judge(raised, policy=Policy(continue_on_error=True)).action is action
    assert judge(raised).action is A.RESTART


def test_the_same_exception_at_the_same_batch_is_final_another_is_not() -> None:
    raised = fault(F.STEP_EXCEPTION, batch=7)
    budgets = Budgets().charged(raised, DEFAULT.rule(F.STEP_EXCEPTION), now=999.0)
    between = budgets.charged(fault(F.CRASH), DEFAULT.rule(F.CRASH), now=999.5)

    for known in (budgets, between):
        decision = judge(raised, budgets=known)
        assert decision.action is A.FAIL
        assert "twice at batch 7" in decision.reason
    assert judge(replace(raised, batch=8), budgets=budgets).action is A.RESTART
    assert judge(replace(raised, message="another"), budgets=budgets).action is A.RESTART


@pytest.mark.parametrize("action", [A.PAUSE, A.FAIL])
def test_failed_saves_act_by_count_or_by_age_only_where_the_user_chose_it(action: Action) -> None:
    failed = fault(F.CHECKPOINT_SAVE_FAILED, reason="no_space")
    row = Budgets(consecutive={F.CHECKPOINT_SAVE_FAILED: 2})
    by_count = Policy(checkpoint_action=action, max_checkpoint_failures=3)
    by_age = Policy(checkpoint_action=action, max_checkpoint_age_s=60.0)

    assert judge(failed, budgets=row, age_s=1e9).action is A.CONTINUE
    counted = judge(failed, policy=by_count, budgets=row)
    assert (counted.action, counted.reason) == (
        action,
        "3 failed saves in a row, limit 3 (no_space)",
    )
    assert judge(failed, policy=by_count, budgets=row.saved()).action is A.CONTINUE
    aged = judge(failed, policy=by_age, age_s=60.0)
    assert (aged.action, aged.reason) == (action, "no durable checkpoint for 60 s, limit 60 s")
    assert judge(failed, policy=by_age, age_s=59.0).action is A.CONTINUE
    both = replace(by_count, max_checkpoint_age_s=60.0)
    assert judge(failed, policy=both, budgets=row, age_s=60.0).reason == aged.reason


def test_where_good_checkpoints_cannot_be_read_it_is_tried_again_but_not_for_ever() -> None:
    asked = fault(F.CHECKPOINT_CORRUPT, reason="none_readable", awaits_decision=True)
    first = judge(asked)
    assert (first.action, first.delay_s) == (A.RESTART, 0.0)
    assert "cannot be read just now" in first.reason
    again = judge(asked, budgets=Budgets(cycles=2))
    assert (again.action, again.delay_s) == (A.RESTART, 2.0)
    assert judge(asked, budgets=Budgets(cycles=3)).action is A.FAIL
    damaged = replace(asked, reason="none_left")
    assert judge(damaged).action is A.FAIL


@pytest.mark.parametrize("fault_class", FaultClass)
@pytest.mark.parametrize("delegated", [A.MASK, A.SKIP])
def test_what_the_step_did_by_itself_is_taken_as_it_is(
    fault_class: FaultClass, delegated: Action
) -> None:
    decision = judge(fault(fault_class, delegated=delegated), budgets=Budgets(cycles=99))

    assert decision.action is delegated
    assert "delegated" in decision.reason


@pytest.mark.parametrize("claimed", [A.ROLLBACK, A.RESTART, A.REFORM, A.PAUSE, A.FAIL])
def test_a_trainer_that_claims_more_than_was_delegated_is_not_believed(claimed: Action) -> None:
    assert judge(fault(F.NON_FINITE_STEP, delegated=claimed)).action is A.SKIP
    assert judge(fault(F.CRASH, delegated=claimed), budgets=Budgets(cycles=3)).action is A.FAIL


@pytest.mark.parametrize(
    "fault_class", [each for each in FaultClass if each is not F.CHECKPOINT_SAVE_FAILED]
)
def test_a_class_without_a_rule_fails_the_run(fault_class: FaultClass) -> None:
    assert judge(fault(fault_class), policy=Policy(rules={})).action is A.FAIL


def test_every_rule_and_what_it_leads_to_may_be_named_by_a_user() -> None:
    for fault_class, allowed in ALLOWED_ACTIONS.items():
        assert {DEFAULT_RULES[fault_class].action, DEFAULT_RULES[fault_class].then} <= allowed


def test_a_fault_storm_does_not_grow_the_budgets() -> None:
    budgets, rule = Budgets(), Rule(action=A.SKIP, limit=5)
    for second in range(100):
        budgets = budgets.charged(fault(F.DATA_ERROR), rule, now=float(second))

    # The limit, the one beyond it, and the same again for a second stage.
    assert budgets.windows[F.DATA_ERROR] == tuple(map(float, range(88, 100)))
    assert budgets.used(F.DATA_ERROR, window_s=600.0, now=99.0) == 12
    assert budgets.used(F.DATA_ERROR, window_s=3.0, now=99.0) == 3


def test_what_is_older_than_the_window_is_forgotten() -> None:
    budgets, rule = Budgets(), Rule(action=A.SKIP, limit=5, window_s=10.0)
    for second in (0.0, 5.0, 10.0):
        budgets = budgets.charged(fault(F.DATA_ERROR), rule, now=second)

    assert budgets.windows[F.DATA_ERROR] == (5.0, 10.0)
