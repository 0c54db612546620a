"""Faults on purpose in a run: as the real ones, and never in the way of what is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fakes import training
from fakes.step_rig import Rig, leaves
from trainerd.actors.digest import state_digest
from trainerd.actors.drills import Spoiling
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan, Rule
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import FaultClass, Result, Verdict
from trainerd.actors.slot_sums import SPIKE
from trainerd.actors.spikes import Spike
from trainerd.actors.step import Settings

pytestmark = pytest.mark.usefixtures("compiled_once")

GLOBAL_BATCH = 12
STEPS = 8


def coded(rig: Rig, **slots: float) -> Any:
    weights = rig.plan.weigh(rig.plan.cut(rig.batches.read(0)), None)
    for name, code in slots.items():
        weights[int(name.removeprefix("slot"))] = code
    return weights


@pytest.mark.parametrize("devices", [1, 3])
def test_a_slot_spoilt_on_purpose_is_masked_like_one_that_is_not_finite(devices: int) -> None:
    bad = training.program(data=training.Data())
    rig, other = Rig(bad, devices=devices), Rig(bad, devices=devices)
    slots = rig.plan.cut(rig.batches.read(0))
    drilled = rig.feed(slots, weights=coded(rig, slot2=np.nan))
    spoilt = jax.tree.map(np.copy, slots)
    spoilt["y"][2] = np.nan
    real = other.feed(spoilt)
    assert drilled.applied
    assert state_digest(rig.state) == state_digest(other.state)
    assert list(drilled.finite) == list(real.finite)
    assert list(drilled.counted) == list(real.counted)
    assert (drilled.loss, drilled.weight) == (real.loss, real.weight)
    assert drilled.metrics == real.metrics


def test_where_slots_are_not_masked_it_spoils_its_step() -> None:
    rig = Rig(training.program())
    before = state_digest(rig.state)
    settings = Settings.of(steps=9, mask=False)
    slots = rig.plan.cut(rig.batches.read(0))
    outputs = rig.feed(slots, weights=coded(rig, slot2=np.nan), settings=settings)
    assert not outputs.applied
    assert (list(outputs.finite), list(outputs.counted)) == (
        [slot != 2 for slot in range(8)],
        [True] * 8,
    )
    assert np.isnan(outputs.loss)
    assert state_digest(rig.state) == before


def test_all_slots_spoilt_leave_nothing_to_apply() -> None:
    rig = Rig(training.program())
    before = state_digest(rig.state)
    weights = np.full(rig.plan.padded, np.nan, np.float32)
    outputs = rig.feed(rig.plan.cut(rig.batches.read(0)), weights=weights)
    assert not outputs.applied
    assert not outputs.counted.any()
    assert state_digest(rig.state) == before


def test_a_spike_is_as_many_times_too_large_and_weighs_what_it_did() -> None:
    rig, other = Rig(training.program()), Rig(training.program())
    slots = rig.plan.cut(rig.batches.read(0))
    drilled = rig.feed(slots, weights=coded(rig, **{f"slot{slot}": -2.0 for slot in range(8)}))
    calm = other.feed(slots, weights=coded(other, **{f"slot{slot}": 2.0 for slot in range(8)}))
    assert drilled.loss == pytest.approx(SPIKE * calm.loss, rel=1e-5)
    assert drilled.gradient_norm == pytest.approx(SPIKE * calm.gradient_norm, rel=1e-5)
    assert drilled.weight == calm.weight == 16.0
    assert drilled.metrics["double"] == calm.metrics["double"]


def test_a_slot_that_is_left_out_anyway_is_left_out() -> None:
    rig, other = Rig(training.program()), Rig(training.program())
    slots = rig.plan.cut(rig.batches.read(0))
    drilled = rig.feed(slots, weights=coded(rig, slot1=np.nan, slot4=-1.0), forced=(1, 4))
    other.feed(slots, forced=(1, 4))
    assert drilled.applied
    for one, two in zip(leaves(rig.state), leaves(other.state), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("weight", [float("nan"), -1.0])
def test_a_program_s_own_weights_may_not_say_so(weight: float) -> None:
    rig = Rig(training.program())
    slots = rig.plan.cut(rig.batches.read(0))
    with pytest.raises(ValueError, match="must be a finite number ≥ 0"):
        rig.plan.weigh(slots, lambda slot: weight)


class Drill:
    """Does what it is told at each batch; `armed` unless there is nothing."""

    def __init__(self, **faults: Any) -> None:
        self.faults = {int(name.removeprefix("batch")): what for name, what in faults.items()}
        self.armed = bool(faults)
        self.asked: list[tuple[int, int]] = []

    def __call__(self, step: int, batch: int, /) -> Spoiling | None:
        self.asked.append((step, batch))
        what = self.faults.get(batch)
        if isinstance(what, Exception):
            raise what
        return what


class Drilled:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recorder = training.Recorder()

    def __call__(self, name: str, drill: Drill | None = None, **options: Any) -> Result:
        self.recorder = options.pop("recorder", None) or training.Recorder()
        ledger, program = options.pop("ledger", []), options.pop("program", training.program())
        base = {"steps": STEPS, "global_batch": GLOBAL_BATCH, "microbatch": 3}
        return run_loop(
            program,
            Plan(**{**base, "checkpoint_every_steps": 100, **options}),
            checkpoint_directory=self.directory / name,
            reporter=self.recorder,
            devices=jax.devices()[:1],
            ledger=ledger,
            drill=drill,
        )


@pytest.fixture
def drilled(tmp_path: Path) -> Drilled:
    return Drilled(tmp_path)


def left_out(batch: int, kind: FaultClass, slots: tuple[int, ...] | None = None) -> Entry:
    return Entry(
        first_batch=batch,
        last_batch=batch,
        slots=slots,
        fault_class=kind,
        decision=Omission.MASK if slots else Omission.SKIP,
    )


@pytest.mark.parametrize(
    ("spoiling", "kind", "slots"),
    [
        (Spoiling(nan_slots=(1, 3)), FaultClass.NON_FINITE_MICROBATCH, (1, 3)),
        (Spoiling(nan_slots=None), FaultClass.NON_FINITE_STEP, None),
        (Spoiling(error="torn"), FaultClass.DATA_ERROR, None),
    ],
)
def test_what_is_left_out_on_purpose_is_left_out_exactly(
    drilled: Drilled, spoiling: Spoiling, kind: FaultClass, slots: tuple[int, ...] | None
) -> None:
    result = drilled("on purpose", Drill(batch3=spoiling))
    (fault,) = drilled.recorder.faults
    assert (fault.fault_class, fault.batch) == (kind, 3)
    if slots:
        assert fault.slots == slots
    without = drilled("without", ledger=[left_out(3, kind, slots)])
    assert without.state_digest == result.state_digest


def test_a_spike_on_purpose_is_one(drilled: Drilled) -> None:
    spike = Spike(z=20.0, min_history=3, history=8)
    result = drilled("spiking", Drill(batch6=Spoiling(spike_slots=None)), spike=spike)
    (fault,) = drilled.recorder.faults
    assert (fault.fault_class, fault.batch) == (FaultClass.LOSS_SPIKE, 6)
    without = drilled("without", ledger=[left_out(6, FaultClass.LOSS_SPIKE)], spike=spike)
    assert without.state_digest == result.state_digest


def test_an_exception_is_one_of_the_step_whose_state_is_whole(drilled: Drilled) -> None:
    recorder = training.Recorder(verdict=lambda fault: Verdict.SKIP)
    result = drilled("raising", Drill(batch3=RuntimeError("on purpose")), recorder=recorder)
    (asked,) = recorder.all("decide")
    assert (asked.fault_class, asked.batch) == (FaultClass.STEP_EXCEPTION, 3)
    assert asked.state_intact
    assert "on purpose" in asked.message
    assert result.skipped_batches == 1


def test_a_drill_is_told_the_step_that_its_batch_is_to_make(drilled: Drilled) -> None:
    drill = Drill(batch2=Spoiling(nan_slots=None))
    drilled("told", drill)
    told = dict((batch, step) for step, batch in drill.asked)
    assert [told[batch] for batch in range(3)] == [1, 2, 3]
    # Whether batch 2 is applied was not known when batch 3 was dispatched.
    assert told[3] in (3, 4)
    assert told[STEPS] == STEPS


def test_a_drill_without_anything_is_not_asked(drilled: Drilled) -> None:
    drill = Drill()
    result = drilled("idle", drill)
    assert drill.asked == []
    assert drilled("without").state_digest == result.state_digest


def test_a_burst_on_purpose_is_rolled_back_and_never_happens_again(drilled: Drilled) -> None:
    rule = Rule(action=Verdict.SKIP, limit=1, window_s=600.0)
    recorder = training.Recorder(verdict=lambda fault: Verdict.ROLLBACK)
    drill = Drill(batch3=Spoiling(nan_slots=None), batch4=Spoiling(nan_slots=None))
    result = drilled("burst", drill, recorder=recorder, non_finite_step=rule)
    (back,) = recorder.all("rolled_back")
    assert (back.first_batch, back.last_batch) == (0, 4)
    range_ = replace(left_out(0, FaultClass.NON_FINITE_STEP), last_batch=4)
    assert drilled("without", ledger=[range_]).state_digest == result.state_digest
