"""From the specification to what the loop and its data need: plan, arguments, ledger."""

from __future__ import annotations

from collections.abc import Iterable

from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan, Rule
from trainerd.actors.reports import FaultClass, Verdict
from trainerd.actors.spikes import Spike
from trainerd.v1 import fault_pb2, launcher_pb2, run_pb2

_DEFAULT_SEED = 0
_DEFAULT_EVERY_STEPS = 50
_DEFAULT_KEEP = 3

_PRECISIONS = {run_pb2.PRECISION_BFLOAT16: "bfloat16"}
_VERDICTS = {
    fault_pb2.ACTION_CONTINUE: Verdict.CONTINUE,
    fault_pb2.ACTION_MASK: Verdict.MASK,
    fault_pb2.ACTION_SKIP: Verdict.SKIP,
    fault_pb2.ACTION_FAIL: Verdict.FAIL,
}
"""What the loop can do alone, and FAIL; everything else always asks, as RESTART does."""


def build_plan(spec: run_pb2.RunSpec, *, run: str = "", slots: int = 0) -> Plan:
    """The loop's plan; unset fields get the documented defaults. Raise PlanError."""
    train, checkpoint, policy = spec.train, spec.checkpoint, spec.policy
    return Plan(
        run_id=run,
        steps=train.steps,
        global_batch=train.global_batch,
        microbatch=train.microbatch if train.HasField("microbatch") else None,
        accumulate_steps=train.accumulate_steps if train.HasField("accumulate_steps") else None,
        slots=slots,
        seed=train.seed if train.HasField("seed") else _DEFAULT_SEED,
        deterministic=train.deterministic if train.HasField("deterministic") else True,
        precision=_PRECISIONS.get(train.precision, "float32"),
        clip_norm=train.clip_norm if train.HasField("clip_norm") else None,
        remat=train.remat,
        spike=Spike(z=policy.loss_spike_z) if policy.HasField("loss_spike_z") else None,
        evaluate_every_steps=train.evaluate_every_steps,
        checkpoint_every_steps=(
            checkpoint.every_steps if checkpoint.HasField("every_steps") else _DEFAULT_EVERY_STEPS
        ),
        checkpoint_keep=checkpoint.keep if checkpoint.HasField("keep") else _DEFAULT_KEEP,
        continue_on_error=policy.continue_on_error,
        non_finite_microbatch=_rule(
            policy.non_finite_microbatch, Rule(action=Verdict.MASK, limit=8, window_s=600.0)
        ),
        non_finite_step=_rule(
            policy.non_finite_step,
            Rule(action=Verdict.SKIP, limit=10, window_s=600.0, consecutive=3),
        ),
        loss_spike=_rule(policy.loss_spike, Rule(action=Verdict.SKIP, limit=5, window_s=600.0)),
        data_error=_rule(policy.data_error, Rule(action=Verdict.SKIP, limit=10, window_s=600.0)),
        step_exception=_rule(
            policy.step_exception, Rule(action=Verdict.SKIP, limit=10, window_s=600.0)
        ),
    )


def _rule(rule: fault_pb2.FaultRule, default: Rule) -> Rule:
    unset = rule.action == fault_pb2.ACTION_UNSPECIFIED
    return Rule(
        action=default.action if unset else _VERDICTS.get(rule.action, Verdict.RESTART),
        limit=rule.limit if rule.HasField("limit") else default.limit,
        window_s=rule.window_s if rule.HasField("window_s") else default.window_s,
        consecutive=rule.consecutive if rule.HasField("consecutive") else default.consecutive,
    )


def ledger_entries(entries: Iterable[launcher_pb2.LedgerEntry]) -> list[Entry]:
    """What the journal says was left out."""
    return [
        Entry(
            first_batch=entry.first_batch,
            last_batch=entry.last_batch,
            slots=tuple(entry.slots) or None,
            fault_class=FaultClass(entry.fault_class),
            decision=Omission(entry.decision),
        )
        for entry in entries
    ]
