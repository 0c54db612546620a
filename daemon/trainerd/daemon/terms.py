"""A run specification in the supervisor's words: defaults, and the policy it asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from trainerd.daemon.supervision.policy import DEFAULT_RULES, Action, FaultClass, Policy, Rule
from trainerd.v1 import fault_pb2, run_pb2

RULED = tuple(
    FaultClass(field.name)
    for field in fault_pb2.Policy.DESCRIPTOR.fields
    if field.message_type is fault_pb2.FaultRule.DESCRIPTOR
)
"""The classes that a run's `[policy]` may give a rule for."""

WAIT_S = 600.0
"""Seconds a run that has lost hosts waits for the fewest it goes on with."""

_ON_REPEATED_FAILURE = {
    run_pb2.ON_REPEATED_FAILURE_PAUSE: Action.PAUSE,
    run_pb2.ON_REPEATED_FAILURE_FAIL: Action.FAIL,
}


def action_of(value: int) -> Action | None:
    """The action of a proto enum number; None: not set."""
    name = fault_pb2.Action.Name(value).removeprefix("ACTION_").lower()
    return None if name == "unspecified" else Action(name)


def with_defaults(spec: run_pb2.RunSpec) -> run_pb2.RunSpec:
    """A copy in which every setting is explicit, as it is journalled and handed to trainers.

    Call it on a validated specification. Rules of the policy stay as the user wrote them; what
    they leave out is in `policy.DEFAULT_RULES`.
    """
    full = run_pb2.RunSpec()
    full.CopyFrom(spec)
    train, checkpoint, hosts = full.train, full.checkpoint, full.hosts
    if not train.HasField("microbatch") and not train.HasField("accumulate_steps"):
        train.microbatch = train.global_batch
    _default(train, seed=0, deterministic=True, evaluate_every_steps=0, remat=False)
    train.precision = train.precision or run_pb2.PRECISION_FLOAT32
    if not (checkpoint.HasField("every_s") or checkpoint.auto_interval):
        _default(checkpoint, every_steps=50)
    _default(checkpoint, keep=3, final_save_timeout_s=120.0, final_save_hold_s=3600.0)
    if checkpoint.HasField("keep_best"):
        checkpoint.best_metric = checkpoint.best_metric or "loss"
        checkpoint.best_mode = checkpoint.best_mode or run_pb2.BEST_MODE_LOWEST
    if not checkpoint.on_repeated_failure:
        checkpoint.on_repeated_failure = run_pb2.ON_REPEATED_FAILURE_CONTINUE
    _default(hosts, count=1, min=1, wait_s=WAIT_S)
    defaults = Policy()
    _default(
        full.policy,
        continue_on_error=defaults.continue_on_error,
        backoff_s=defaults.backoff_s,
        backoff_max_s=defaults.backoff_max_s,
        max_cycles_without_progress=defaults.max_cycles_without_progress,
        hang_factor=defaults.hang_factor,
        rollback_steps=defaults.rollback_steps,
    )
    for fault_class in RULED:
        rule = getattr(full.policy, fault_class.value)
        default = DEFAULT_RULES[fault_class]
        _default(
            rule,
            limit=default.limit,
            window_s=default.window_s,
            consecutive=default.consecutive,
        )
        rule.action = rule.action or fault_pb2.Action.Value(f"ACTION_{default.action.name}")
        rule.then = rule.then or fault_pb2.Action.Value(f"ACTION_{default.then.name}")
    return full


def policy_with_defaults(policy: fault_pb2.Policy) -> fault_pb2.Policy:
    """A copy of a policy in which every setting that has a default is explicit."""
    return with_defaults(run_pb2.RunSpec(policy=policy)).policy


def policy_of(spec: run_pb2.RunSpec) -> Policy:
    """The supervisor's policy of a specification; unset fields keep the defaults."""
    full = with_defaults(spec)
    rules: dict[FaultClass, Rule] = dict(DEFAULT_RULES)
    for fault_class in RULED:
        rules[fault_class] = _rule(getattr(full.policy, fault_class.value), rules[fault_class])
    return Policy(
        rules=rules,
        continue_on_error=full.policy.continue_on_error,
        backoff_s=full.policy.backoff_s,
        backoff_max_s=full.policy.backoff_max_s,
        max_cycles_without_progress=full.policy.max_cycles_without_progress,
        checkpoint_action=_ON_REPEATED_FAILURE.get(
            full.checkpoint.on_repeated_failure, Action.CONTINUE
        ),
        max_checkpoint_failures=full.checkpoint.max_failures,
        max_checkpoint_age_s=full.checkpoint.max_age_s,
        hang_factor=full.policy.hang_factor,
        hang_floor_s=full.policy.hang_floor_s,
        rollback_steps=full.policy.rollback_steps,
    )


def _rule(message: fault_pb2.FaultRule, default: Rule) -> Rule:
    return dataclasses.replace(
        default,
        action=action_of(message.action) or default.action,
        limit=message.limit,
        window_s=message.window_s,
        then=action_of(message.then) or default.then,
        consecutive=message.consecutive,
    )


def _default(message: Any, **values: Mapping[str, Any] | float | bool) -> None:  # noqa: ANN401
    for name, value in values.items():
        if not message.HasField(name):
            setattr(message, name, value)
