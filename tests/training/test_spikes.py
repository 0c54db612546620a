"""Loss spikes: the threshold, what it is made of, and what a run does about one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import training
from trainerd.actors import run_loop
from trainerd.actors.data import Batches
from trainerd.actors.errors import PlanError
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan, Rule
from trainerd.actors.reports import Controls, FaultClass, FinishReason, Result, Verdict
from trainerd.actors.spikes import LossHistory, Spike

pytestmark = pytest.mark.usefixtures("compiled_once")

SPIKE = Spike(z=3.0, min_history=4, history=6)


def history(*losses: float) -> LossHistory:
    made = LossHistory(SPIKE)
    for loss in losses:
        made.add(loss)
    return made


def test_the_limit_is_the_median_and_so_many_absolute_deviations() -> None:
    assert SPIKE.limit([1.0, 2.0, 4.0, 8.0, 100.0]) == 4.0 + 3.0 * 3.0


def test_without_enough_losses_there_is_no_limit() -> None:
    assert SPIKE.limit([1.0, 2.0, 3.0]) == math.inf


def test_without_spread_there_is_no_limit() -> None:
    """Most losses equal: the deviation is zero, and any rise at all would be a spike."""
    assert SPIKE.limit([1.0, 1.0, 1.0, 1.0, 2.0]) == math.inf


def test_the_newest_loss_counts_for_the_update_after_the_next() -> None:
    made = history(1.0, 2.0, 3.0, 4.0)
    assert made.limits == (math.inf, SPIKE.limit([1.0, 2.0, 3.0, 4.0]))
    made.add(5.0)
    assert made.limits == (
        SPIKE.limit([1.0, 2.0, 3.0, 4.0]),
        SPIKE.limit([1.0, 2.0, 3.0, 4.0, 5.0]),
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_w11_a_loss_that_is_not_finite_never_enters_the_history(value: float) -> None:
    made = history(1.0, 2.0, 3.0, 4.0)
    before = made.limits, made.losses
    made.add(value)
    assert (made.limits, made.losses) == before
    assert LossHistory(SPIKE, [1.0, value, 2.0]).losses == (1.0, 2.0)


@settings(deadline=None)
@given(losses=st.lists(st.floats(-1e6, 1e6, width=32), max_size=20))
def test_a_history_from_a_checkpoint_goes_on_as_if_it_had_never_been_saved(
    losses: list[float],
) -> None:
    kept = history(*losses)
    restored = LossHistory(SPIKE, kept.losses)
    assert len(kept.losses) <= SPIKE.history + 1
    for loss in (None, 7.0, 8.0):
        if loss is not None:
            kept.add(loss)
            restored.add(loss)
        assert restored.limits == kept.limits


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"z": 0.0}, "z must be a finite number > 0, got 0.0"),
        ({"z": math.inf}, "z must be a finite number > 0, got inf"),
        ({"min_history": 1}, "min_history must be ≥ 2, got 1"),
        ({"min_history": 9, "history": 8}, "history must be from min_history 9 to 4096, got 8"),
        ({"history": 5000}, "to 4096, got 5000"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(numbers: dict[str, Any], expected: str) -> None:
    with pytest.raises(PlanError) as raised:
        Spike(**numbers)
    assert expected in str(raised.value)


STEPS, BAD_BATCH = 7, 6


def bad_index() -> int:
    return int(Batches(training.Data(), global_batch=12, seed=0).indices(BAD_BATCH)[3])


def trained(directory: Path, **options: Any) -> tuple[Result, training.Recorder]:
    """Train past a batch with one label far off; its loss is high, and finite."""
    recorder = options.pop("recorder", None) or training.Recorder()
    off = {"x": training.Data().x[bad_index()], "y": np.float32(50.0)}
    numbers = {"spike": Spike(z=20.0, min_history=4, history=8), **options.pop("numbers", {})}
    plan = Plan(steps=STEPS, global_batch=12, microbatch=3, checkpoint_every_steps=100, **numbers)
    result = run_loop(
        training.program(data=training.Data(spoil={bad_index(): off})),
        plan,
        checkpoint_directory=directory,
        reporter=recorder,
        devices=jax.devices()[:1],
        **options,
    )
    return result, recorder


@pytest.fixture(scope="module")
def skipped(
    tmp_path_factory: pytest.TempPathFactory, compiled_once: None
) -> tuple[Result, training.Recorder]:
    return trained(tmp_path_factory.mktemp("spike") / "run")


def test_a_spike_is_skipped_and_told(skipped: tuple[Result, training.Recorder]) -> None:
    result, recorder = skipped
    (fault,) = recorder.faults
    assert (fault.fault_class, fault.batch) == (FaultClass.LOSS_SPIKE, BAD_BATCH)
    assert fault.delegated is Verdict.SKIP
    assert (result.step, result.skipped_batches) == (STEPS, 1)
    spiked = next(record for record in recorder.steps if record.batch == BAD_BATCH)
    assert not spiked.applied
    assert math.isfinite(spiked.loss)


def test_without_the_setting_no_loss_is_too_high(tmp_path: Path) -> None:
    result, recorder = trained(tmp_path / "run", numbers={"spike": None})
    assert recorder.faults == []
    assert result.skipped_batches == 0


def test_a_spike_leaves_no_trace(tmp_path: Path, skipped: tuple[Result, training.Recorder]) -> None:
    entry = Entry(
        first_batch=BAD_BATCH,
        last_batch=BAD_BATCH,
        slots=None,
        fault_class=FaultClass.LOSS_SPIKE,
        decision=Omission.SKIP,
    )
    result, recorder = trained(tmp_path / "run", ledger=[entry])
    assert recorder.faults == []
    assert result.state_digest == skipped[0].state_digest


def test_a_run_that_is_interrupted_finds_the_same_spikes(
    tmp_path: Path, skipped: tuple[Result, training.Recorder]
) -> None:
    """The losses that thresholds are made of are part of a checkpoint."""
    controls = Controls()
    recorder = training.Recorder()

    def stop(record: Any) -> None:
        if record.step == 4:
            controls.stop(FinishReason.STOPPED)

    recorder.on_step = stop
    first, _ = trained(tmp_path / "run", recorder=recorder, controls=controls)
    assert first.reason is FinishReason.STOPPED
    assert first.step < BAD_BATCH
    result, again = trained(tmp_path / "run")
    assert [fault.batch for fault in again.faults] == [BAD_BATCH]
    assert result.state_digest == skipped[0].state_digest


def test_a_spike_that_the_rule_does_not_skip_alone_is_asked_about(tmp_path: Path) -> None:
    never = Rule(action=Verdict.FAIL, limit=5, window_s=600.0)
    result, recorder = trained(tmp_path / "run", numbers={"loss_spike": never})
    (asked,) = recorder.all("decide")
    assert asked.fault_class is FaultClass.LOSS_SPIKE
    assert result.reason is FinishReason.DECIDED
