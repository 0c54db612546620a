"""From a policy's message to the rules of the loop. Without jax: a trainer attaches before that."""

from __future__ import annotations

from trainerd.actors.reports import Verdict
from trainerd.actors.rules import Rule, Rules
from trainerd.actors.spikes import Spike
from trainerd.v1 import fault_pb2

_VERDICTS = {
    fault_pb2.ACTION_CONTINUE: Verdict.CONTINUE,
    fault_pb2.ACTION_MASK: Verdict.MASK,
    fault_pb2.ACTION_SKIP: Verdict.SKIP,
    fault_pb2.ACTION_FAIL: Verdict.FAIL,
}
"""What the loop can do alone, and FAIL; everything else always asks, as RESTART does."""


def build_rules(policy: fault_pb2.Policy, version: int) -> Rules:
    """What the loop does alone under a policy; unset rules and fields get the defaults.

    Raise PlanError.
    """
    default = Rules()
    return Rules(
        version=version,
        continue_on_error=policy.continue_on_error,
        spike=Spike(z=policy.loss_spike_z) if policy.HasField("loss_spike_z") else None,
        non_finite_microbatch=_rule(policy.non_finite_microbatch, default.non_finite_microbatch),
        non_finite_step=_rule(policy.non_finite_step, default.non_finite_step),
        loss_spike=_rule(policy.loss_spike, default.loss_spike),
        data_error=_rule(policy.data_error, default.data_error),
        step_exception=_rule(policy.step_exception, default.step_exception),
    )


def _rule(rule: fault_pb2.FaultRule, default: Rule) -> Rule:
    unset = rule.action == fault_pb2.ACTION_UNSPECIFIED
    return Rule(
        action=default.action if unset else _VERDICTS.get(rule.action, Verdict.RESTART),
        limit=rule.limit if rule.HasField("limit") else default.limit,
        window_s=rule.window_s if rule.HasField("window_s") else default.window_s,
        consecutive=rule.consecutive if rule.HasField("consecutive") else default.consecutive,
    )
