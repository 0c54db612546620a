"""From a specification to the loop's plan: what is set, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainerd.actors.checkpoint_retention import Retention
from trainerd.actors.errors import PlanError
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan
from trainerd.actors.reports import FaultClass, Verdict
from trainerd.actors.spikes import Spike
from trainerd.actors.trainer.plans import build_plan, build_recovery, ledger_entries
from trainerd.actors.trainer.values import arguments
from trainerd.v1 import fault_pb2, incident_pb2, launcher_pb2, run_pb2


def spec_of(checkpoint: run_pb2.CheckpointSpec | None = None, **train: int) -> run_pb2.RunSpec:
    return run_pb2.RunSpec(
        train=run_pb2.TrainSpec(**({"steps": 5, "global_batch": 8} | train)), checkpoint=checkpoint
    )


def test_an_empty_specification_gets_the_documented_defaults():
    assert build_plan(spec_of()) == Plan(steps=5, global_batch=8, final_save_hold_s=3600.0)


def test_checkpoints_are_made_by_updates_unless_something_else_says_when() -> None:
    def when(**checkpoint: Any) -> tuple[int, float, bool]:
        plan = build_plan(spec_of(checkpoint=run_pb2.CheckpointSpec(**checkpoint)))
        return plan.checkpoint_every_steps, plan.checkpoint_every_s, plan.checkpoint_auto

    assert when() == (50, 0.0, False)
    assert when(every_s=9.0) == (0, 9.0, False)
    assert when(every_steps=5, every_s=9.0) == (5, 9.0, False)
    assert when(auto_interval=True) == (0, 0.0, True)


def test_what_is_kept_is_what_the_run_file_says() -> None:
    checkpoint = run_pb2.CheckpointSpec(
        keep=2,
        keep_every_steps=100,
        keep_best=1,
        best_metric="accuracy",
        best_mode=run_pb2.BEST_MODE_HIGHEST,
        final_save_timeout_s=7.0,
        final_save_hold_s=8.0,
    )
    plan = build_plan(spec_of(checkpoint=checkpoint))
    assert plan.retention == Retention(
        keep=2, every_steps=100, best=1, metric="accuracy", highest=True, rollback_steps=20
    )
    assert (plan.final_save_timeout_s, plan.final_save_hold_s) == (7.0, 8.0)


def test_what_is_set_is_passed_on():
    spec = spec_of(microbatch=4, seed=-3, evaluate_every_steps=2)
    spec.train.deterministic = False
    spec.checkpoint.every_steps = 7
    spec.checkpoint.keep = 2
    spec.policy.continue_on_error = True
    plan = build_plan(spec, run="r-1", slots=2)
    assert (plan.run_id, plan.slots, plan.microbatch, plan.accumulate_steps) == ("r-1", 2, 4, None)
    assert (plan.seed, plan.evaluate_every_steps, plan.deterministic) == (-3, 2, False)
    assert (plan.checkpoint_every_steps, plan.checkpoint_keep) == (7, 2)
    assert plan.continue_on_error


def test_how_the_step_computes_is_passed_on():
    spec = spec_of()
    spec.train.precision = run_pb2.PRECISION_BFLOAT16
    spec.train.clip_norm, spec.train.remat = 0.5, True
    spec.policy.loss_spike_z = 6.0
    spec.policy.loss_spike.limit = 2
    plan = build_plan(spec)
    assert (plan.precision, plan.clip_norm, plan.remat) == ("bfloat16", 0.5, True)
    assert plan.state == "replicated"
    spec.train.state = run_pb2.STATE_LAYOUT_SHARDED
    assert build_plan(spec).state == "sharded"
    assert plan.spike == Spike(z=6.0)
    assert (plan.loss_spike.action, plan.loss_spike.limit) == (Verdict.SKIP, 2)


def test_the_specification_is_kept_as_json_without_the_environment_s_values():
    spec = spec_of(microbatch=4)
    spec.entry = "lm:build"
    spec.args["width"].int_value = 128
    spec.args["sizes"].list_value.values.add(double_value=0.5)
    spec.train.precision = run_pb2.PRECISION_BFLOAT16
    spec.trainer.path.append("/src")
    spec.trainer.env["TOKEN"] = "secret"
    spec.policy.non_finite_step.limit = 0
    assert json.loads(json.dumps(build_plan(spec).specification)) == {
        "entry": "lm:build",
        "args": {"width": 128, "sizes": [0.5]},
        "train": {
            "steps": 5,
            "global_batch": 8,
            "microbatch": 4,
            "precision": "PRECISION_BFLOAT16",
        },
        "trainer": {"path": ["/src"], "env": ["TOKEN"]},
        "policy": {"non_finite_step": {"limit": 0}},
    }


def test_zero_is_a_number_and_not_a_missing_one():
    assert build_plan(spec_of(seed=0)).seed == 0
    with pytest.raises(PlanError, match="microbatch must be ≥ 1, got 0"):
        build_plan(spec_of(microbatch=0))


def test_a_rule_changes_only_what_it_sets():
    spec = spec_of()
    spec.policy.non_finite_step.limit = 0
    spec.policy.non_finite_microbatch.action = fault_pb2.ACTION_ROLLBACK
    spec.policy.data_error.window_s = 5.0
    spec.policy.data_error.action = fault_pb2.ACTION_FAIL
    plan, default = build_plan(spec), Plan(steps=5, global_batch=8)
    assert plan.non_finite_step.limit == 0
    assert plan.non_finite_step.action is default.non_finite_step.action
    assert plan.non_finite_step.consecutive == default.non_finite_step.consecutive
    # What the loop cannot do alone, it asks about.
    assert plan.non_finite_microbatch.action is Verdict.RESTART
    assert (plan.data_error.action, plan.data_error.window_s) == (Verdict.FAIL, 5.0)


def test_the_journals_ledger_is_read():
    entries = ledger_entries(
        [
            incident_pb2.LedgerEntry(
                first_batch=3, last_batch=4, fault_class="data_error", decision="skip"
            ),
            incident_pb2.LedgerEntry(
                first_batch=9,
                last_batch=9,
                slots=[1, 2],
                fault_class="non_finite_microbatch",
                decision="mask",
            ),
        ]
    )
    assert entries == [
        Entry(
            first_batch=3,
            last_batch=4,
            slots=None,
            fault_class=FaultClass.DATA_ERROR,
            decision=Omission.SKIP,
        ),
        Entry(
            first_batch=9,
            last_batch=9,
            slots=(1, 2),
            fault_class=FaultClass.NON_FINITE_MICROBATCH,
            decision=Omission.MASK,
        ),
    ]


def test_arguments_keep_their_types():
    spec = run_pb2.RunSpec()
    spec.args["width"].int_value = 2**62
    spec.args["rate"].double_value = 1.0
    spec.args["deep"].bool_value = True
    spec.args["name"].string_value = "x"
    spec.args["sizes"].list_value.values.add().int_value = 1
    spec.args["table"].table_value.values["key"].string_value = "v"
    found = arguments(spec.args)
    assert found == {
        "width": 2**62,
        "rate": 1.0,
        "deep": True,
        "name": "x",
        "sizes": [1],
        "table": {"key": "v"},
    }
    assert (type(found["width"]), type(found["rate"]), type(found["deep"])) == (int, float, bool)


def test_a_value_of_no_kind_is_refused():
    with pytest.raises(ValueError, match="must have a kind"):
        arguments({"x": run_pb2.Value()})


def test_where_a_process_leaves_what_the_next_one_finds_is_as_assigned():
    assignment = launcher_pb2.Assignment(
        snapshot_directory="/dev/shm/x/run",
        snapshot_bytes=1000,
        executable_directory="/cache",
        mean_time_between_crashes_s=15.0,
    )
    told: list[tuple[int, int]] = []
    recovery = build_recovery(assignment, lambda *what: told.append(what))
    assert (recovery.snapshot_directory, recovery.snapshot_bytes) == (Path("/dev/shm/x/run"), 1000)
    assert recovery.executable_directory == Path("/cache")
    assert recovery.crash_every_s == 15.0
    recovery.told(3, 4)
    assert told == [(3, 4)]


def test_without_places_nothing_is_left_or_looked_for():
    recovery = build_recovery(launcher_pb2.Assignment(), lambda *_: None)
    assert recovery.snapshot_directory is None
    assert recovery.executable_directory is None
