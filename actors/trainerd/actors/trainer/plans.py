"""From the specification to what the loop and its data need: plan, arguments, ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_retention import LOSS
from trainerd.actors.head_start import HeadStart
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import FaultClass
from trainerd.actors.shards import REPLICATED, SHARDED
from trainerd.actors.trainer.policies import build_rules
from trainerd.actors.trainer.specification import described
from trainerd.v1 import incident_pb2, launcher_pb2, run_pb2

_DEFAULT_SEED = 0
_DEFAULT_EVERY_STEPS = 50
_DEFAULT_KEEP = 3
_DEFAULT_FINAL_SAVE_TIMEOUT_S = 120.0
_DEFAULT_FINAL_SAVE_HOLD_S = 3600.0
_DEFAULT_ROLLBACK_STEPS = 20

_PRECISIONS = {run_pb2.PRECISION_BFLOAT16: "bfloat16"}
_STATES = {run_pb2.STATE_LAYOUT_SHARDED: SHARDED}


def build_plan(
    spec: run_pb2.RunSpec,
    *,
    run: str = "",
    slots: int = 0,
    slot_parts: int = 0,
    policy_version: int = 0,
) -> Plan:
    """The loop's plan; unset fields get the documented defaults. Raise PlanError.

    `slots` 0: not chosen yet; `slot_parts` 0: slots are computed whole. `policy_version` names the
    policy in `spec`.
    """
    train, checkpoint = spec.train, spec.checkpoint
    rules = build_rules(spec.policy, policy_version)
    return Plan(
        run_id=run,
        steps=train.steps,
        global_batch=train.global_batch,
        microbatch=train.microbatch if train.HasField("microbatch") else None,
        accumulate_steps=train.accumulate_steps if train.HasField("accumulate_steps") else None,
        slots=slots,
        slot_parts=slot_parts or 1,
        seed=train.seed if train.HasField("seed") else _DEFAULT_SEED,
        deterministic=train.deterministic if train.HasField("deterministic") else True,
        precision=_PRECISIONS.get(train.precision, "float32"),
        clip_norm=train.clip_norm if train.HasField("clip_norm") else None,
        remat=train.remat,
        exact_across_hosts=train.exact_across_hosts,
        state=_STATES.get(train.state, REPLICATED),
        spike=rules.spike,
        evaluate_every_steps=train.evaluate_every_steps,
        **_saving(checkpoint),
        rollback_steps=(
            spec.policy.rollback_steps
            if spec.policy.HasField("rollback_steps")
            else _DEFAULT_ROLLBACK_STEPS
        ),
        continue_on_error=rules.continue_on_error,
        policy_version=rules.version,
        non_finite_microbatch=rules.non_finite_microbatch,
        non_finite_step=rules.non_finite_step,
        loss_spike=rules.loss_spike,
        data_error=rules.data_error,
        step_exception=rules.step_exception,
        specification=described(spec),
    )


def _saving(checkpoint: run_pb2.CheckpointSpec) -> dict[str, Any]:
    """When to save, and what stays: fields of the plan."""
    timed = checkpoint.HasField("every_s") or checkpoint.auto_interval
    every_steps = 0 if timed else _DEFAULT_EVERY_STEPS
    if checkpoint.HasField("every_steps"):
        every_steps = checkpoint.every_steps
    values: dict[str, Any] = {
        "checkpoint_every_steps": every_steps,
        "checkpoint_every_s": checkpoint.every_s,
        "checkpoint_auto": checkpoint.auto_interval,
        "checkpoint_keep": checkpoint.keep if checkpoint.HasField("keep") else _DEFAULT_KEEP,
        "checkpoint_keep_every_steps": checkpoint.keep_every_steps,
        "checkpoint_keep_best": checkpoint.keep_best,
        "checkpoint_best_metric": checkpoint.best_metric or LOSS,
        "checkpoint_best_highest": checkpoint.best_mode == run_pb2.BEST_MODE_HIGHEST,
        "final_save_timeout_s": _DEFAULT_FINAL_SAVE_TIMEOUT_S,
        "final_save_hold_s": _DEFAULT_FINAL_SAVE_HOLD_S,
    }
    for name in ("final_save_timeout_s", "final_save_hold_s"):
        if checkpoint.HasField(name):
            values[name] = getattr(checkpoint, name)
    return values


def build_recovery(
    assignment: launcher_pb2.Assignment,
    told: Callable[[int, int], None],
    head_start: HeadStart | None = None,
) -> Recovery:
    """What this process finds on its host, and leaves there; `told` as in `Recovery`."""
    snapshots, executables = assignment.snapshot_directory, assignment.executable_directory
    known = assignment.known_checkpoint
    return Recovery(
        snapshot_directory=Path(snapshots) if snapshots else None,
        snapshot_bytes=assignment.snapshot_bytes,
        executable_directory=Path(executables) if executables else None,
        crash_every_s=assignment.mean_time_between_crashes_s,
        known=Checkpoint(step=assignment.known_step, path=Path(known)) if known else None,
        reached_step=assignment.reached_step,
        told=told,
        head_start=head_start,
    )


def ledger_entries(entries: Iterable[incident_pb2.LedgerEntry]) -> list[Entry]:
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
