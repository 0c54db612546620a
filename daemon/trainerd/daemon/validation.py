"""Everything that is wrong with a run specification, by key path. Pure; the daemon alone does this.

What needs the user's Python (does the module exist, do the shapes fit) is the program check, which
the launcher runs as its own user.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from trainerd.daemon.drill_problems import inject_problems
from trainerd.daemon.problem import problem
from trainerd.daemon.supervision.policy import ALLOWED_ACTIONS, MAX_LIMIT
from trainerd.daemon.terms import RULED, action_of
from trainerd.v1 import control_pb2, fault_pb2, run_pb2
from trainerd.v1.variables import refusal

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_ENTRY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_FINAL_SAVE_S = 600.0
_MAX_STEPS = 2**31 - 1

_Problems = Iterator[control_pb2.Problem]


def problems_of(spec: run_pb2.RunSpec, *, most_hosts: int = 1) -> list[control_pb2.Problem]:
    """All problems of a specification, in the order of its fields; empty if there is none.

    `most_hosts`: how many hosts a run may ask for; 1: there is no cluster.
    """
    return [
        *_identity(spec),
        *_train(spec.train),
        *_trainer(spec.trainer),
        *_checkpoint(spec.checkpoint),
        *_hosts(spec, most_hosts),
        *policy_problems(spec.policy),
        *inject_problems(spec),
    ]


def _identity(spec: run_pb2.RunSpec) -> _Problems:
    if not _NAME.fullmatch(spec.name):
        yield problem(
            "name",
            "must be 1 to 63 of a-z, 0-9 and '-', starting with a letter, "
            + (f'got "{spec.name}"' if spec.name else "it is missing"),
        )
    if not _ENTRY.fullmatch(spec.entry):
        yield problem(
            "entry",
            'must be "package.module:function", '
            + (f'got "{spec.entry}"' if spec.entry else "it is missing"),
            'for example entry = "trainerd.actors.examples.stdlib_lm:build"',
        )


def _train(train: run_pb2.TrainSpec) -> _Problems:
    yield from _at_least("train.steps", train.steps, 1, most=_MAX_STEPS)
    yield from _at_least("train.global_batch", train.global_batch, 1)
    if train.HasField("microbatch") and train.HasField("accumulate_steps"):
        yield problem(
            "train.accumulate_steps",
            "cannot be given together with train.microbatch: both say how a batch is cut",
            "keep one of the two",
        )
    if train.HasField("microbatch"):
        yield from _at_least("train.microbatch", train.microbatch, 1)
        if train.microbatch >= 1 and train.global_batch >= 1:
            yield from _divides("train.microbatch", train.microbatch, train.global_batch)
    if train.HasField("accumulate_steps"):
        yield from _at_least("train.accumulate_steps", train.accumulate_steps, 1)
        if train.accumulate_steps >= 1 and train.global_batch >= 1:
            yield from _divides(
                "train.accumulate_steps", train.accumulate_steps, train.global_batch
            )
    yield from _at_least("train.seed", train.seed, 0)
    yield from _at_least("train.evaluate_every_steps", train.evaluate_every_steps, 0)
    if train.precision not in run_pb2.Precision.values():
        yield problem("train.precision", f'must be "float32" or "bfloat16", got {train.precision}')
    if train.HasField("clip_norm") and not 0 < train.clip_norm < float("inf"):
        yield problem("train.clip_norm", f"must be a positive number, got {train.clip_norm:g}")
    if train.state not in run_pb2.StateLayout.values():
        yield problem("train.state", f'must be "replicated" or "sharded", got {train.state}')
    if train.state == run_pb2.STATE_LAYOUT_SHARDED and train.exact_across_hosts:
        yield problem(
            "train.state",
            'cannot be "sharded" together with train.exact_across_hosts, which sums whole '
            "gradients on every device",
            "keep one of the two",
        )


def _trainer(trainer: run_pb2.TrainerSpec) -> _Problems:
    if "/" in trainer.python and not PurePosixPath(trainer.python).is_absolute():
        yield _relative("trainer.python", trainer.python)
    for index, entry in enumerate(trainer.path):
        if not PurePosixPath(entry).is_absolute():
            yield _relative(f"trainer.path[{index}]", entry)
    for name in sorted(trainer.env):
        if not _ENVIRONMENT.fullmatch(name):
            yield problem(f"trainer.env.{name}", "is not a name for an environment variable")
        elif why := refusal(name, trainer.env[name]):
            yield problem(
                f"trainer.env.{name}",
                why,
                "use trainer.path for import paths and trainer.python for the interpreter",
            )
    if trainer.workdir and not PurePosixPath(trainer.workdir).is_absolute():
        yield _relative("trainer.workdir", trainer.workdir)


def _checkpoint(checkpoint: run_pb2.CheckpointSpec) -> _Problems:
    for field in ("directory", "fallback_directory"):
        value = getattr(checkpoint, field)
        if value and not PurePosixPath(value).is_absolute():
            yield _relative(f"checkpoint.{field}", value)
    if checkpoint.fallback_directory and checkpoint.fallback_directory == checkpoint.directory:
        yield problem(
            "checkpoint.fallback_directory",
            "is checkpoint.directory itself: where one fails the other does too",
            "name a directory on another device",
        )
    yield from _when_and_what(checkpoint)
    if checkpoint.on_repeated_failure not in run_pb2.OnRepeatedFailure.values():
        yield problem(
            "checkpoint.on_repeated_failure",
            f'must be "continue", "pause" or "fail", got {checkpoint.on_repeated_failure}',
        )
    acts = checkpoint.on_repeated_failure in (
        run_pb2.ON_REPEATED_FAILURE_PAUSE,
        run_pb2.ON_REPEATED_FAILURE_FAIL,
    )
    limited = checkpoint.HasField("max_failures") or checkpoint.HasField("max_age_s")
    if acts and not limited:
        yield problem(
            "checkpoint.on_repeated_failure",
            'is "pause" or "fail", but nothing says when',
            "set checkpoint.max_failures or checkpoint.max_age_s",
        )


def _when_and_what(checkpoint: run_pb2.CheckpointSpec) -> _Problems:
    """When checkpoints are saved, which of them are kept."""
    for name in ("every_steps", "keep", "max_failures", "keep_every_steps", "keep_best"):
        if checkpoint.HasField(name):
            yield from _at_least(f"checkpoint.{name}", getattr(checkpoint, name), 1)
    for name in ("max_age_s", "every_s", "final_save_timeout_s", "final_save_hold_s"):
        if checkpoint.HasField(name):
            yield from _positive(f"checkpoint.{name}", getattr(checkpoint, name))
    if not 0 <= checkpoint.scrub_every_s < math.inf:
        yield problem(
            "checkpoint.scrub_every_s",
            f"must be a finite number ≥ 0, got {checkpoint.scrub_every_s:g}",
            "0 is never",
        )
    if _MAX_FINAL_SAVE_S < checkpoint.final_save_timeout_s < math.inf:
        yield problem(
            "checkpoint.final_save_timeout_s",
            f"must be ≤ {_MAX_FINAL_SAVE_S:g}, got {checkpoint.final_save_timeout_s:g}: a trainer "
            "that saves for longer counts as hung",
        )
    for name in ("every_steps", "every_s"):
        if checkpoint.auto_interval and checkpoint.HasField(name):
            yield problem(
                "checkpoint.auto_interval",
                f"cannot be given together with checkpoint.{name}: both say when to save",
                "keep one of the two",
            )
    if checkpoint.best_mode not in run_pb2.BestMode.values():
        yield problem(
            "checkpoint.best_mode", f'must be "lowest" or "highest", got {checkpoint.best_mode}'
        )
    for name in ("best_metric", "best_mode"):
        if getattr(checkpoint, name) and not checkpoint.HasField("keep_best"):
            yield problem(
                f"checkpoint.{name}",
                "is given, but nothing is kept by it",
                "say how many: checkpoint.keep_best",
            )


def _hosts(spec: run_pb2.RunSpec, most: int) -> _Problems:
    hosts = spec.hosts
    count = hosts.count if hosts.HasField("count") else 1
    least = hosts.min if hosts.HasField("min") else 1
    if most == 1:
        for field, value in (("count", count), ("min", least)):
            if value != 1:
                alone = f"must be 1 where the daemon has no cluster, got {value}"
                yield problem(f"hosts.{field}", alone)
    else:
        if not 1 <= count <= most:
            yield problem("hosts.count", f"must be 1 to {most}, got {count}")
        if not 1 <= least <= max(count, 1):
            yield problem("hosts.min", f"must be 1 to hosts.count ({count}), got {least}")
        if count > 1 and not spec.checkpoint.directory:
            yield problem(
                "checkpoint.directory",
                f"must be given for a run on {count} hosts: all of them save and restore there",
                "a directory that every host reaches under this path",
            )
    if hosts.HasField("wait_s"):
        yield from _positive("hosts.wait_s", hosts.wait_s)


def policy_problems(policy: fault_pb2.Policy) -> _Problems:
    """What is wrong with a policy, whole or a part of one; key paths begin with `policy`."""
    if policy.HasField("backoff_s") and not policy.backoff_s >= 0:
        yield problem("policy.backoff_s", f"must be ≥ 0, got {policy.backoff_s:g}")
    if policy.HasField("loss_spike_z") and not 1 <= policy.loss_spike_z < float("inf"):
        yield problem("policy.loss_spike_z", f"must be ≥ 1, got {policy.loss_spike_z:g}")
    if policy.HasField("backoff_max_s"):
        yield from _positive("policy.backoff_max_s", policy.backoff_max_s)
    if policy.HasField("max_cycles_without_progress"):
        yield from _at_least(
            "policy.max_cycles_without_progress", policy.max_cycles_without_progress, 1
        )
    if policy.HasField("hang_factor") and not 1 <= policy.hang_factor < math.inf:
        yield problem("policy.hang_factor", f"must be ≥ 1, got {policy.hang_factor:g}")
    if policy.HasField("hang_floor_s"):
        yield from _positive("policy.hang_floor_s", policy.hang_floor_s)
    if policy.HasField("rollback_steps"):
        yield from _at_least("policy.rollback_steps", policy.rollback_steps, 1)
    for fault_class in RULED:
        if not policy.HasField(fault_class.value):
            continue
        rule: fault_pb2.FaultRule = getattr(policy, fault_class.value)
        path = f"policy.{fault_class.value}"
        allowed = ALLOWED_ACTIONS[fault_class]
        for field in ("action", "then"):
            number = getattr(rule, field)
            known = number in fault_pb2.Action.values()
            action = action_of(number) if known else None
            if not known or (action is not None and action not in allowed):
                names = ", ".join(sorted(f'"{each.value}"' for each in allowed))
                got = f'"{action.value}"' if action else number
                yield problem(f"{path}.{field}", f"must be one of {names}, got {got}")
        if rule.HasField("limit"):
            yield from _at_least(f"{path}.limit", rule.limit, 0, most=MAX_LIMIT)
        if rule.HasField("window_s"):
            yield from _positive(f"{path}.window_s", rule.window_s)
        if rule.HasField("consecutive"):
            yield from _at_least(f"{path}.consecutive", rule.consecutive, 0)


def _at_least(field: str, value: int, least: int, *, most: int | None = None) -> _Problems:
    if value < least:
        yield problem(field, f"must be ≥ {least}, got {value}")
    elif most is not None and value > most:
        yield problem(field, f"must be ≤ {most}, got {value}")


def _positive(field: str, value: float) -> _Problems:
    if not 0 < value < float("inf"):
        yield problem(field, f"must be a positive number of seconds, got {value:g}")


def _divides(field: str, value: int, batch: int) -> _Problems:
    if batch % value:
        near = max(each for each in _divisors(batch) if each <= value)
        yield problem(
            field,
            f"must divide train.global_batch = {batch}, got {value}",
            f"{near} does",
        )


def _divisors(number: int) -> Iterator[int]:
    for small in range(1, math.isqrt(number) + 1):
        if number % small == 0:
            yield from (small, number // small)


def _relative(field: str, value: str) -> control_pb2.Problem:
    return problem(
        field,
        f'must be an absolute path, got "{value}"',
        "trainerctl resolves relative paths against the run file; other clients must do the same",
    )
