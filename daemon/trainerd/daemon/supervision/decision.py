"""decide(policy, budgets, fault, now): one pure function from evidence to action and reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trainerd.daemon.supervision.budget import Budgets, account
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.policy import DELEGABLE, Action, FaultClass, Policy, Rule

SCOPES: Mapping[Action, str] = MappingProxyType(
    {
        Action.CONTINUE: "run",
        Action.MASK: "slot",
        Action.SKIP: "batch",
        Action.ROLLBACK: "process",
        Action.RESTART: "process",
        Action.REFORM: "gang",
        Action.PAUSE: "run",
        Action.FAIL: "run",
    }
)

RECOVERIES = (Action.ROLLBACK, Action.RESTART)
"""Actions that count as a cycle without progress, until there is some."""
JITTER = 0.1
"""A back-off is up to this part shorter than its nominal length, so that runs do not march in
step."""

_MAX_DOUBLINGS = 64
"""Beyond it every back-off is the longest one, and a float would overflow."""


def _decision(action: Action, reason: str) -> Decision:
    return Decision(action=action, scope=SCOPES[action], reason=reason)


_DELEGATED = {
    action: _decision(action, "delegated to the compiled step by the run's policy")
    for action in (Action.CONTINUE, Action.MASK, Action.SKIP)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One fault, and all that the decision about it rests on.

    `supposed`: the policy was not in force; what another one delegated, or saw spent, says nothing
    about its own allowances.
    """

    policy: Policy
    budgets: Budgets
    fault: Fault
    now: float
    trained: bool
    checkpoint_age_s: float
    slot_parts: int
    spread: float
    supposed: bool = False

    @property
    def rule(self) -> Rule:
        return self.policy.rule(self.fault.fault_class)

    @property
    def count(self) -> int:
        """Faults of its account in the window, itself included."""
        window_s = self.rule.window_s
        return self.budgets.used(account(self.fault), window_s=window_s, now=self.now) + 1

    @property
    def name(self) -> str:
        fault = self.fault
        if fault.fault_class is FaultClass.HANG and fault.phase is not None:
            return f"hang in phase {fault.phase.value}"
        return fault.fault_class.value

    @property
    def numbers(self) -> str:
        rule = self.rule
        return f"{self.name} {self.count} in {rule.window_s:g} s, limit {rule.limit}"

    @property
    def excess(self) -> str:
        """With the numbers, why this fault is one too many; or nothing."""
        rule = self.rule
        in_a_row = self.budgets.in_a_row(self.fault)
        if rule.consecutive and in_a_row >= rule.consecutive:
            return f"{self.name} {in_a_row} in a row, limit {rule.consecutive - 1}"
        return self.numbers if self.count > rule.limit else ""


def decide(
    policy: Policy,
    budgets: Budgets,
    fault: Fault,
    *,
    now: float,
    trained: bool,
    checkpoint_age_s: float = 0.0,
    slot_parts: int = 0,
    spread: float = 0.0,
) -> Decision:
    """Decide about a fault. `budgets` are those before it; `trained`: a step was good before.

    `slot_parts`: what each slot is cut into, 0: nothing. `spread`, from 0 to 1: which part of
    JITTER a back-off is shortened by. The reason is one sentence that holds the numbers the
    decision rests on.
    """
    if fault.delegated is not None and fault.handled:
        return _DELEGATED[fault.delegated]
    return _judged(
        _Case(
            policy=policy,
            budgets=budgets,
            fault=fault,
            now=now,
            trained=trained,
            checkpoint_age_s=checkpoint_age_s,
            slot_parts=slot_parts,
            spread=spread,
        )
    )


def suppose(
    policy: Policy,
    budgets: Budgets,
    fault: Fault,
    *,
    now: float,
    trained: bool,
    checkpoint_age_s: float = 0.0,
    slot_parts: int = 0,
    spread: float = 0.0,
) -> Decision:
    """Say what a policy that was not in force would have decided; arguments as for `decide`.

    `budgets` are those it would have counted by itself: of the faults that a step handles alone it
    knows the allowance from them, and not from what the policy in force left over.
    """
    return _judged(
        _Case(
            policy=policy,
            budgets=budgets,
            fault=fault,
            now=now,
            trained=trained,
            checkpoint_age_s=checkpoint_age_s,
            slot_parts=slot_parts,
            spread=spread,
            supposed=True,
        )
    )


def charge(
    policy: Policy, budgets: Budgets, fault: Fault, decision: Decision, *, now: float
) -> Budgets:
    """Return the budgets with this fault, and what was decided about it, counted in."""
    charged = budgets.charged(fault, policy.rule(fault.fault_class), now=now)
    return charged.recovering() if decision.action in RECOVERIES else charged


def charge_supposed(
    policy: Policy, budgets: Budgets, fault: Fault, decision: Decision, *, now: float
) -> Budgets:
    """The same for a decision that was not carried out: a rollback counts as done."""
    charged = charge(policy, budgets, fault, decision, now=now)
    if decision.action is Action.ROLLBACK:
        charged = charged.rolled_back(fault.fault_class, from_step=fault.step, now=now)
    return charged


def _judged(case: _Case) -> Decision:
    special: Decision | None = None
    match case.fault.fault_class:
        case FaultClass.STEP_EXCEPTION:
            special = _step_exception(case)
        case FaultClass.DEVICE_OOM:
            special = _device_oom(case)
        case FaultClass.CHECKPOINT_SAVE_FAILED:
            special = _save_failed(case)
        case FaultClass.CHECKPOINT_CORRUPT if case.fault.awaits_decision:
            special = _nothing_to_restore(case)
        case _:
            pass
    return special if special is not None else _by_rule(case)


def _by_rule(case: _Case) -> Decision:
    rule, fault = case.rule, case.fault
    if rule.action is Action.FAIL:
        return _decision(Action.FAIL, f"the policy fails a run on {fault.fault_class.value}")
    if rule.action in (Action.MASK, Action.SKIP):
        return _delegable(case)
    if rule.action is Action.CONTINUE:
        text = f"training goes on; {case.name} {case.count} in {rule.window_s:g} s"
        return _decision(Action.CONTINUE, text)
    excess = case.excess
    return _act(case, rule.then, excess) if excess else _act(case, rule.action, case.numbers)


def _delegable(case: _Case) -> Decision:
    """The compiled step masks and skips by itself; it asks only when its own allowance is spent."""
    rule, fault = case.rule, case.fault
    if fault.fault_class in DELEGABLE and fault.awaits_decision and not case.supposed:
        spent = f"{fault.message} ({case.numbers})"
        skipping = fault.delegated is Action.SKIP
    else:
        spent = case.excess
        # Beyond the masks come as many skips; only then it is spent a second time.
        skipping = rule.action is Action.SKIP or case.count > 2 * rule.limit + 1
    if not spent:
        return _decision(rule.action, case.numbers)
    if rule.then is Action.SKIP and skipping:
        # To skip is what it did already.
        return _act(case, Action.ROLLBACK, spent)
    if rule.then is Action.SKIP:
        return _decision(
            Action.SKIP, f"{spent}; whole batches are left out for {rule.window_s:g} s"
        )
    return _act(case, rule.then, spent)


def _act(case: _Case, action: Action, numbers: str) -> Decision:
    match action:
        case Action.RESTART:
            return _restart(case, numbers)
        case Action.ROLLBACK if not (case.fault.awaits_decision or case.supposed):
            return _restart(case, f"{numbers}; no trainer waits to be rolled back")
        case Action.ROLLBACK:
            return _rollback(case, numbers)
        case _:
            return _decision(action, numbers)


def _restart(case: _Case, numbers: str, *, slot_parts: int = 0) -> Decision:
    policy, cycles = case.policy, case.budgets.cycles
    stuck = _stuck(case, numbers)
    if stuck is not None:
        return stuck
    delay_s = 0.0
    if cycles > 0:
        doublings = min(cycles - 1, _MAX_DOUBLINGS)
        nominal_s = min(policy.backoff_s * 2.0**doublings, policy.backoff_max_s)
        delay_s = round(nominal_s * (1.0 - JITTER * case.spread), 3)
    limit = policy.max_cycles_without_progress
    return Decision(
        action=Action.RESTART,
        scope=SCOPES[Action.RESTART],
        delay_s=delay_s,
        reason=f"{numbers}; recovery {cycles + 1} since the last recoverable step, limit {limit}",
        slot_parts=slot_parts,
    )


def _rollback(case: _Case, numbers: str) -> Decision:
    policy, name = case.policy, case.fault.fault_class.value
    at = case.budgets.rollbacks.get(case.fault.fault_class)
    if at is not None and case.now - at < case.rule.window_s:
        ago = f"rolled back for {name} {case.now - at:.0f} s ago"
        text = f"{numbers}; {ago}, without a new recoverable step since"
        return _decision(Action.FAIL, text)
    stuck = _stuck(case, numbers)
    if stuck is not None:
        return stuck
    cycle, limit = case.budgets.cycles + 1, policy.max_cycles_without_progress
    return Decision(
        action=Action.ROLLBACK,
        scope=SCOPES[Action.ROLLBACK],
        reason=f"{numbers}; back to a state at least {policy.rollback_steps} steps older; "
        f"recovery {cycle} since the last recoverable step, limit {limit}",
        rollback_steps=policy.rollback_steps,
    )


def _stuck(case: _Case, numbers: str) -> Decision | None:
    cycles, limit = case.budgets.cycles, case.policy.max_cycles_without_progress
    if cycles < limit:
        return None
    stuck = f"{cycles} recoveries without a new recoverable step, limit {limit}"
    return _decision(Action.FAIL, f"no_progress: {stuck} ({numbers})")


def _step_exception(case: _Case) -> Decision | None:
    fault = case.fault
    if not case.trained:
        return _decision(
            Action.FAIL,
            "the program failed before its first good step: a new process would fail the same way, "
            "do not resubmit it unchanged",
        )
    if case.budgets.last_root == fault.root:
        return _decision(
            Action.FAIL, f"the same exception twice at batch {fault.batch}: {fault.message}"
        )
    skips = case.policy.continue_on_error and fault.state_intact and fault.batch >= 0
    if skips and not case.excess:
        return _decision(
            Action.SKIP, f"continue_on_error: batch {fault.batch} is left out, the state is whole"
        )
    return None


def _device_oom(case: _Case) -> Decision | None:
    """Each restart computes every slot in twice as many parts; `limit` counts in a run's life."""
    rule, present = case.rule, max(case.slot_parts, 1)
    if rule.action is not Action.RESTART:
        return None
    if case.fault.reason == "indivisible":
        whole = "in one piece" if present == 1 else f"in {present} parts"
        return _decision(
            Action.FAIL, f"out of memory, and a slot that is computed {whole} cannot be cut further"
        )
    split = present.bit_length()
    if split > rule.limit:
        text = f"out of memory although each slot was cut {split - 1} times, limit {rule.limit}"
        return _act(case, rule.then, text)
    if rule.consecutive and case.budgets.in_a_row(case.fault) >= rule.consecutive:
        return None
    parts = 2 * present
    return _restart(
        case,
        f"out of memory: each slot is computed in {parts} parts from now on, the same curve within "
        f"rounding for a loss that draws nothing; cut {split}, limit {rule.limit}",
        slot_parts=parts,
    )


def _nothing_to_restore(case: _Case) -> Decision:
    """What could not be read may be good: it is tried again. What is damaged stays so."""
    if case.fault.reason == "none_readable":
        return _restart(case, "what there is to restore cannot be read just now")
    return _decision(Action.FAIL, f"no good checkpoint is left: {case.fault.message}")


def _save_failed(case: _Case) -> Decision:
    if case.fault.awaits_decision:
        return _last_save_failed(case.fault)
    policy = case.policy
    failures = case.budgets.in_a_row(case.fault)
    if policy.checkpoint_action is not Action.CONTINUE:
        limit, limit_s = policy.max_checkpoint_failures, policy.max_checkpoint_age_s
        if limit_s and case.checkpoint_age_s >= limit_s:
            age = f"{case.checkpoint_age_s:.0f} s"
            reason = f"no durable checkpoint for {age}, limit {limit_s:g} s"
            return _decision(policy.checkpoint_action, reason)
        if limit and failures >= limit:
            reason = f"{failures} failed saves in a row, limit {limit} ({case.fault.reason})"
            return _decision(policy.checkpoint_action, reason)
    return _decision(Action.CONTINUE, f"training goes on; failed saves in a row: {failures}")


def _last_save_failed(fault: Fault) -> Decision:
    """The last state of a run is asked about alone: once when it cannot be made durable in time,
    and again, in phase *paused*, when that has not changed for as long as a run holds for it."""
    if fault.phase is Phase.PAUSED:
        return _decision(Action.FAIL, f"{fault.message}; held for that, and tried again, in vain")
    return _decision(
        Action.PAUSE,
        f"{fault.message}; its process keeps it and tries again, resume it once mended",
    )
