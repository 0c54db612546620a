"""What is wrong with a run specification: all of it, by key path, with what to do."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from trainerd.daemon.supervision.policy import Action, FaultClass, Policy
from trainerd.daemon.terms import policy_of, with_defaults
from trainerd.daemon.validation import problems_of
from trainerd.v1 import fault_pb2, run_pb2

GOOD: dict[str, Any] = {
    "name": "a",
    "entry": "package.module:build",
    "train": {"steps": 10, "globalBatch": 8},
}


def changed(path: str, value: object) -> run_pb2.RunSpec:
    """A good specification with one key changed."""
    document = json_format.MessageToDict(json_format.ParseDict(GOOD, run_pb2.RunSpec()))
    table = document
    *parents, last = path.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    table[last] = value
    return json_format.ParseDict(document, run_pb2.RunSpec())


def test_a_good_specification_has_no_problem() -> None:
    assert problems_of(changed("name", "a")) == []
    assert problems_of(with_defaults(changed("name", "a"))) == []


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        (
            "train.clipNorm",
            0.0,
            "train.clip_norm",
            "train.clip_norm must be a positive number, got 0",
        ),
        (
            "policy.lossSpikeZ",
            0.5,
            "policy.loss_spike_z",
            "policy.loss_spike_z must be ≥ 1, got 0.5",
        ),
        (
            "train.precision",
            7,
            "train.precision",
            'train.precision must be "float32" or "bfloat16", got 7',
        ),
        ("train.state", 7, "train.state", 'must be "replicated" or "sharded", got 7'),
        ("name", "", "name", "it is missing"),
        ("name", "A", "name", 'got "A"'),
        ("name", "a" * 64, "name", "must be 1 to 63"),
        ("name", "1a", "name", "starting with a letter"),
        ("entry", "", "entry", "it is missing"),
        ("entry", "module", "entry", 'must be "package.module:function", got "module"'),
        ("train.steps", 0, "train.steps", "must be ≥ 1, got 0"),
        ("train.steps", 2**31, "train.steps", "must be ≤ 2147483647"),
        ("train.globalBatch", -1, "train.global_batch", "must be ≥ 1, got -1"),
        ("train.microbatch", 3, "train.microbatch", "must divide train.global_batch = 8, got 3"),
        ("train.microbatch", 16, "train.microbatch", "must divide train.global_batch = 8, got 16"),
        ("train.microbatch", 0, "train.microbatch", "must be ≥ 1, got 0"),
        ("train.accumulateSteps", 5, "train.accumulate_steps", "must divide"),
        ("train.seed", -1, "train.seed", "must be ≥ 0, got -1"),
        ("train.evaluateEverySteps", -2, "train.evaluate_every_steps", "must be ≥ 0, got -2"),
        ("trainer.python", "bin/python", "trainer.python", "must be an absolute path"),
        ("trainer.path", ["/a", "b"], "trainer.path[1]", 'must be an absolute path, got "b"'),
        ("trainer.env", {"1A": ""}, "trainer.env.1A", "is not a name"),
        ("trainer.env", {"LD_PRELOAD": ""}, "trainer.env.LD_PRELOAD", "may not be set"),
        ("trainer.env", {"PYTHONPATH": ""}, "trainer.env.PYTHONPATH", "may not be set"),
        ("trainer.workdir", "x", "trainer.workdir", "must be an absolute path"),
        ("checkpoint.directory", "x", "checkpoint.directory", "must be an absolute path"),
        ("checkpoint.fallbackDirectory", "x", "checkpoint.fallback_directory", "absolute path"),
        ("checkpoint.keepEverySteps", 0, "checkpoint.keep_every_steps", "must be ≥ 1, got 0"),
        ("checkpoint.keepBest", 0, "checkpoint.keep_best", "must be ≥ 1, got 0"),
        ("checkpoint.bestMetric", "x", "checkpoint.best_metric", "nothing is kept by it"),
        ("checkpoint.bestMode", 2, "checkpoint.best_mode", "nothing is kept by it"),
        ("checkpoint.everyS", 0.0, "checkpoint.every_s", "must be a positive number"),
        ("checkpoint.finalSaveTimeoutS", 601.0, "checkpoint.final_save_timeout_s", "≤ 600"),
        ("checkpoint.finalSaveTimeoutS", "NaN", "checkpoint.final_save_timeout_s", "positive"),
        ("checkpoint.finalSaveHoldS", -1.0, "checkpoint.final_save_hold_s", "positive number"),
        ("checkpoint.everySteps", 0, "checkpoint.every_steps", "must be ≥ 1, got 0"),
        ("checkpoint.keep", 0, "checkpoint.keep", "must be ≥ 1, got 0"),
        ("checkpoint.maxFailures", 0, "checkpoint.max_failures", "must be ≥ 1, got 0"),
        ("checkpoint.scrubEveryS", -1.0, "checkpoint.scrub_every_s", "≥ 0, got -1"),
        ("checkpoint.scrubEveryS", "NaN", "checkpoint.scrub_every_s", "a finite number"),
        ("checkpoint.maxAgeS", 0.0, "checkpoint.max_age_s", "must be a positive number"),
        ("checkpoint.maxAgeS", "NaN", "checkpoint.max_age_s", "must be a positive number"),
        ("checkpoint.maxAgeS", "Infinity", "checkpoint.max_age_s", "must be a positive number"),
        ("checkpoint.onRepeatedFailure", 2, "checkpoint.on_repeated_failure", "nothing says when"),
        ("checkpoint.onRepeatedFailure", 9, "checkpoint.on_repeated_failure", "got 9"),
        ("hosts.count", 2, "hosts.count", "must be 1 where the daemon has no cluster"),
        ("hosts.min", 0, "hosts.min", "has no cluster, got 0"),
        ("policy.backoffS", -1.0, "policy.backoff_s", "must be ≥ 0, got -1"),
        ("policy.backoffS", "NaN", "policy.backoff_s", "must be ≥ 0, got nan"),
        ("policy.hangFactor", 0.5, "policy.hang_factor", "must be ≥ 1, got 0.5"),
        ("policy.hangFactor", "NaN", "policy.hang_factor", "must be ≥ 1, got nan"),
        ("policy.hangFloorS", 0.0, "policy.hang_floor_s", "must be a positive number"),
        ("policy.backoffMaxS", 0.0, "policy.backoff_max_s", "must be a positive number"),
        (
            "policy.maxCyclesWithoutProgress",
            0,
            "policy.max_cycles_without_progress",
            "must be ≥ 1, got 0",
        ),
        (
            "policy.crash.action",
            "ACTION_MASK",
            "policy.crash.action",
            'must be one of "fail", "restart", got "mask"',
        ),
        ("policy.hang.then", 77, "policy.hang.then", 'one of "fail", "restart", got 77'),
        ("policy.crash.limit", -1, "policy.crash.limit", "must be ≥ 0, got -1"),
        ("policy.crash.limit", 1001, "policy.crash.limit", "must be ≤ 1000, got 1001"),
        ("policy.crash.windowS", 0.0, "policy.crash.window_s", "must be a positive number"),
        ("policy.crash.consecutive", -1, "policy.crash.consecutive", "must be ≥ 0, got -1"),
    ],
)
def test_one_thing_is_wrong(path: str, value: object, field: str, message: str) -> None:
    (problem,) = problems_of(changed(path, value))

    assert problem.field == field
    assert message in problem.message
    assert problem.message.startswith(field)


def test_an_empty_specification_is_told_everything_it_lacks() -> None:
    fields = [problem.field for problem in problems_of(run_pb2.RunSpec())]

    assert fields == ["name", "entry", "train.steps", "train.global_batch"]


def test_an_interval_is_given_or_chosen() -> None:
    spec = changed("checkpoint.everyS", 60.0)
    spec.checkpoint.every_steps = 50
    assert problems_of(spec) == []
    spec.checkpoint.auto_interval = True

    assert [problem.message for problem in problems_of(spec)] == [
        "checkpoint.auto_interval cannot be given together with checkpoint.every_steps: both say "
        "when to save",
        "checkpoint.auto_interval cannot be given together with checkpoint.every_s: both say when "
        "to save",
    ]


def test_what_is_best_is_the_lowest_or_the_highest() -> None:
    spec = changed("checkpoint.keepBest", 2)
    spec.checkpoint.best_mode = 9  # type: ignore[assignment]
    (problem,) = problems_of(spec)

    assert problem.message == 'checkpoint.best_mode must be "lowest" or "highest", got 9'


def test_a_fallback_has_to_be_another_directory() -> None:
    spec = changed("checkpoint.directory", "/data")
    spec.checkpoint.fallback_directory = "/other"
    assert problems_of(spec) == []
    spec.checkpoint.fallback_directory = "/data"
    (problem,) = problems_of(spec)

    assert "is checkpoint.directory itself" in problem.message


def test_a_batch_is_cut_in_one_way_only() -> None:
    spec = changed("train.microbatch", 4)
    spec.train.accumulate_steps = 2
    (problem,) = problems_of(spec)

    assert "cannot be given together with train.microbatch" in problem.message


def test_sharded_state_and_exactness_across_hosts_are_refused_with_all_else() -> None:
    spec = changed("train.state", "STATE_LAYOUT_SHARDED")
    assert problems_of(spec) == []
    spec.train.exact_across_hosts = True
    spec.train.steps = 0
    first, second = problems_of(spec)

    assert (first.field, second.field) == ("train.steps", "train.state")
    assert 'cannot be "sharded" together with train.exact_across_hosts' in second.message


def test_the_nearest_divisor_is_found_at_once_however_large_the_batch() -> None:
    spec = changed("train.microbatch", 2**30 + 1)
    spec.train.global_batch = 2**31 - 1  # a prime
    (problem,) = problems_of(spec)

    assert problem.suggestion == "1 does"


def test_defaults_are_filled_in_and_what_the_user_wrote_stays() -> None:
    spec = changed("policy.crash", {"limit": 2, "then": "ACTION_RESTART"})
    full = with_defaults(spec)

    assert (full.train.microbatch, full.train.seed, full.train.deterministic) == (8, 0, True)
    assert (full.checkpoint.every_steps, full.checkpoint.keep) == (50, 3)
    assert full.checkpoint.on_repeated_failure == run_pb2.ON_REPEATED_FAILURE_CONTINUE
    assert (full.hosts.count, full.hosts.min) == (1, 1)
    assert (full.policy.crash.limit, full.policy.crash.window_s) == (2, 600.0)
    assert full.policy.crash.action == fault_pb2.ACTION_RESTART
    assert full.policy.crash.then == fault_pb2.ACTION_RESTART
    assert with_defaults(full) == full
    assert not spec.HasField("hosts"), "the caller's own specification is not touched"
    kept = changed("train.accumulateSteps", 4)
    assert not with_defaults(kept).train.HasField("microbatch")


def test_the_policy_of_a_specification() -> None:
    assert policy_of(changed("name", "a")) == Policy()
    spec = changed("policy", {"continueOnError": True, "crash": {"limit": 2, "windowS": 9.0}})
    spec.checkpoint.on_repeated_failure = run_pb2.ON_REPEATED_FAILURE_PAUSE
    spec.checkpoint.max_failures = 4
    policy = policy_of(spec)

    assert policy.continue_on_error
    assert (policy.rule(FaultClass.CRASH).limit, policy.rule(FaultClass.CRASH).window_s) == (2, 9.0)
    assert policy.rule(FaultClass.HANG) == Policy().rule(FaultClass.HANG)
    assert (policy.checkpoint_action, policy.max_checkpoint_failures) == (Action.PAUSE, 4)
