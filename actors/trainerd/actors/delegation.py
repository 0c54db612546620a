"""What a run deals with alone right now: its rules, what is left of them, and whether it masks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from trainerd.actors.budget import Budget
from trainerd.actors.reports import Fault, FaultClass, Verdict
from trainerd.actors.rules import Rule, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A fault that the step dealt with itself. `why_asked`: it needs a decision all the same."""

    fault: Fault
    why_asked: str = ""


class Delegation:
    """Spends the rules' allowances. Owned by the account; time is an argument.

    A slot that is not finite is masked where the rule says so. Where that allowance is spent and
    whoever is asked says SKIP, such slots spoil, and skip, whole steps for the rule's `window_s`
    seconds; see `masks`.
    """

    def __init__(self, rules: Rules) -> None:
        self._version, self.continues_on_error = rules.version, rules.continue_on_error
        self._rules = _by_class(rules)
        self._budgets = {kind: Budget(rule) for kind, rule in self._rules.items()}
        self._masks_again_s = -math.inf

    def masks(self, now: float) -> bool:
        """Whether slots that are not finite are left out of the mean from now on."""
        rule = self._rules[FaultClass.NON_FINITE_MICROBATCH]
        return rule.action is Verdict.MASK and now >= self._masks_again_s

    @property
    def unsettled(self) -> bool:
        """Whether `masks` changes by itself."""
        return self._masks_again_s > -math.inf

    def masked(self, fault: Fault, now: float) -> Incident:
        """Slots of a step were left out of its mean."""
        return self._spend(replace(fault, delegated=Verdict.MASK), now)

    def skipped(self, fault: Fault, now: float) -> Incident:
        """A batch was left out as a whole."""
        action = self._rules[fault.fault_class].action
        by_masks = fault.fault_class is FaultClass.NON_FINITE_MICROBATCH and action is Verdict.MASK
        if action is Verdict.SKIP or by_masks:
            return self._spend(replace(fault, delegated=Verdict.SKIP), now)
        fault = replace(fault, policy_version=self._version)
        return Incident(fault=fault, why_asked="the policy does not skip these alone")

    def again(self, incident: Incident, now: float) -> Incident:
        """The same incident, now that somebody has looked at its class since."""
        return incident if incident.fault.delegated is None else self._spend(incident.fault, now)

    def applied(self) -> None:
        """A step was applied: the next fault of each class is the first in a row."""
        for budget in self._budgets.values():
            budget.progressed()

    def decided(self, fault: Fault, verdict: Verdict, now: float) -> None:
        """Somebody looked at the faults of this class and said that the run goes on."""
        kind = fault.fault_class
        self._budgets[kind].renew()
        if kind is FaultClass.NON_FINITE_MICROBATCH:
            window_s = self._rules[kind].window_s
            self._masks_again_s = now + window_s if verdict is Verdict.SKIP else -math.inf

    def begin_anew(self) -> None:
        """The run goes on from an older state: nothing is spent."""
        for budget in self._budgets.values():
            budget.renew()
        self._masks_again_s = -math.inf

    def adopt(self, rules: Rules) -> None:
        """Go by other rules; what has been spent stays spent."""
        self._version, self.continues_on_error = rules.version, rules.continue_on_error
        self._rules = _by_class(rules)
        for kind, rule in self._rules.items():
            self._budgets[kind].adopt(rule)

    def _spend(self, fault: Fault, now: float) -> Incident:
        fault = replace(fault, policy_version=self._version)
        why = self._budgets[fault.fault_class].spend(now)
        return Incident(fault=fault, why_asked=why)


def _by_class(rules: Rules) -> dict[FaultClass, Rule]:
    return {
        FaultClass.NON_FINITE_MICROBATCH: rules.non_finite_microbatch,
        FaultClass.NON_FINITE_STEP: rules.non_finite_step,
        FaultClass.LOSS_SPIKE: rules.loss_spike,
        FaultClass.DATA_ERROR: rules.data_error,
        FaultClass.STEP_EXCEPTION: rules.step_exception,
    }
