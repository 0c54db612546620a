"""decide(policy, budgets, fault, now): one pure function from evidence to action and reason."""

from __future__ import annotations

from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.faults import Decision, Fault
from trainerd.daemon.supervision.policy import Action, FaultClass, Policy, Rule

SCOPES = {
    Action.CONTINUE: "run",
    Action.MASK: "slot",
    Action.SKIP: "batch",
    Action.ROLLBACK: "process",
    Action.RESTART: "process",
    Action.REFORM: "gang",
    Action.PAUSE: "run",
    Action.FAIL: "run",
}

_MAX_DOUBLINGS = 64
"""Beyond it every back-off is the longest one, and a float would overflow."""


def decide(
    policy: Policy,
    budgets: Budgets,
    fault: Fault,
    *,
    now: float,
    trained: bool,
    checkpoint_age_s: float = 0.0,
) -> Decision:
    """Decide about a fault. `budgets` are those before it; `trained`: a step was good before.

    The reason is one sentence that holds the numbers the decision rests on.
    """
    if fault.delegated is not None:
        return _decision(fault.delegated, "delegated to the compiled step by the run's policy")
    rule = policy.rule(fault.fault_class)
    match fault.fault_class:
        case FaultClass.STEP_EXCEPTION:
            special = _step_exception(policy, budgets, fault, trained=trained)
        case FaultClass.CHECKPOINT_SAVE_FAILED:
            special = _save_failed(policy, budgets, fault, age_s=checkpoint_age_s)
        case FaultClass.CHECKPOINT_CORRUPT if fault.awaits_decision:
            special = _decision(Action.FAIL, f"no good checkpoint is left: {fault.message}")
        case _:
            special = None
    if special is not None:
        return special
    return _by_rule(policy, budgets, fault, rule, now=now)


def _by_rule(policy: Policy, budgets: Budgets, fault: Fault, rule: Rule, *, now: float) -> Decision:
    name = fault.fault_class.value
    count = budgets.used(fault.fault_class, window_s=rule.window_s, now=now) + 1
    in_a_row = budgets.consecutive.get(fault.fault_class, 0) + 1
    numbers = f"{name} {count} in {rule.window_s:g} s, limit {rule.limit}"
    if rule.action is Action.FAIL:
        return _decision(Action.FAIL, f"the policy fails a run on {name}")
    if fault.awaits_decision and rule.action in (Action.MASK, Action.SKIP):
        # The compiled step masks and skips by itself; it asks only when its own budget is spent,
        # and says so.
        return _escalated(policy, budgets, rule.then, f"{fault.message} ({numbers})")
    if rule.action is Action.CONTINUE:
        return _decision(
            Action.CONTINUE, f"training goes on; {name} {count} in {rule.window_s:g} s"
        )
    if rule.consecutive and in_a_row >= rule.consecutive:
        text = f"{name} {in_a_row} in a row, limit {rule.consecutive - 1}"
        return _escalated(policy, budgets, rule.then, text)
    if count > rule.limit:
        return _escalated(policy, budgets, rule.then, numbers)
    if rule.action is Action.RESTART:
        return _restart(policy, budgets, numbers)
    return _decision(rule.action, numbers)


def _escalated(policy: Policy, budgets: Budgets, action: Action, numbers: str) -> Decision:
    if action is Action.RESTART:
        return _restart(policy, budgets, numbers)
    return _decision(action, numbers)


def _restart(policy: Policy, budgets: Budgets, numbers: str) -> Decision:
    cycles, limit = budgets.cycles, policy.max_cycles_without_progress
    if cycles >= limit:
        reason = (
            f"no_progress: {cycles} restarts without a new recoverable step, limit {limit} "
            f"({numbers})"
        )
        return _decision(Action.FAIL, reason)
    delay_s = 0.0
    if cycles > 0:
        doublings = min(cycles - 1, _MAX_DOUBLINGS)
        delay_s = min(policy.backoff_s * 2.0**doublings, policy.backoff_max_s)
    reason = f"{numbers}; restart {cycles + 1} since the last recoverable step, limit {limit}"
    return Decision(action=Action.RESTART, scope="process", delay_s=delay_s, reason=reason)


def _step_exception(
    policy: Policy, budgets: Budgets, fault: Fault, *, trained: bool
) -> Decision | None:
    if not trained:
        return _decision(
            Action.FAIL,
            "the program failed before its first good step: a new process would fail the same way, "
            "do not resubmit it unchanged",
        )
    if budgets.last_root == fault.root:
        return _decision(
            Action.FAIL, f"the same exception twice at batch {fault.batch}: {fault.message}"
        )
    if policy.continue_on_error and fault.state_intact and fault.batch >= 0:
        return _decision(
            Action.SKIP, f"continue_on_error: batch {fault.batch} is left out, the state is whole"
        )
    return None


def _save_failed(
    policy: Policy, budgets: Budgets, fault: Fault, *, age_s: float
) -> Decision | None:
    failures = budgets.consecutive.get(FaultClass.CHECKPOINT_SAVE_FAILED, 0) + 1
    if policy.checkpoint_action is not Action.CONTINUE:
        limit, limit_s = policy.max_checkpoint_failures, policy.max_checkpoint_age_s
        if limit and failures >= limit:
            reason = f"{failures} failed saves in a row, limit {limit} ({fault.reason})"
            return _decision(policy.checkpoint_action, reason)
        if limit_s and age_s > limit_s:
            reason = f"no durable checkpoint for {age_s:.0f} s, limit {limit_s:g} s"
            return _decision(policy.checkpoint_action, reason)
    return _decision(Action.CONTINUE, f"training goes on; failed saves in a row: {failures}")


def _decision(action: Action, reason: str) -> Decision:
    return Decision(action=action, scope=SCOPES[action], reason=reason)
