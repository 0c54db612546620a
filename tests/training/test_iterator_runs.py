"""Runs over an iterator of examples: exact across interruptions, with a clear end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax
import pytest

from fakes import training
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import (
    Controls,
    FaultClass,
    FinishReason,
    Phase,
    Result,
    StepRecord,
    Verdict,
)

pytestmark = pytest.mark.usefixtures("compiled_once")

STEPS = 7
GLOBAL_BATCH = 12


class Run:
    """Runs the loop over data in one directory, again and again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recorder = training.Recorder()

    def __call__(self, data: Any, **options: Any) -> Result:
        numbers = {"steps": STEPS, "checkpoint_every_steps": 3, **options.pop("numbers", {})}
        self.recorder = options.pop("recorder", None) or training.Recorder()
        return run_loop(
            training.program(data=data),
            Plan(global_batch=GLOBAL_BATCH, microbatch=3, **numbers),
            checkpoint_directory=self.directory,
            reporter=self.recorder,
            devices=jax.devices()[:1],
            **options,
        )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def other(tmp_path: Path) -> Run:
    return Run(tmp_path / "other")


def plain(length: int = training.EXAMPLES) -> training.Stream:
    data = training.Data(length)
    return training.Stream(data[index] for index in range(length))


def shuffled() -> Any:
    source = grain.MapDataset.source(training.Data()).seed(5).shuffle().repeat(3)
    return source.to_iter_dataset()


def at(step: int, act: Callable[[], None]) -> Callable[[StepRecord], None]:
    def on_step(record: StepRecord) -> None:
        if record.step == step:
            act()

    return on_step


@pytest.mark.parametrize("source", [plain, shuffled])
@pytest.mark.parametrize("save", [True, False])
def test_w17_an_iterator_s_run_goes_on_with_the_next_batch(
    run: Run, other: Run, source: Callable[[], Any], save: bool
) -> None:
    """Stopped with a save where it stands, or without one and so thrown back to an older one."""
    controls = Controls()
    stop = at(4, lambda: controls.stop(FinishReason.STOPPED, save=save))
    stopped = run(source(), controls=controls, recorder=training.Recorder(on_step=stop))
    assert stopped.reason is FinishReason.STOPPED
    assert stopped.durable_step == (stopped.step if save else 3)
    resumed = run(source())
    assert run.recorder.all("restored")[0][0] == stopped.durable_step
    assert resumed.state_digest == other(source()).state_digest


def test_w16_nothing_is_pulled_that_the_run_does_not_need(run: Run) -> None:
    source = plain()
    run(source)
    template = 1
    assert source.pulls == template + STEPS * GLOBAL_BATCH
    assert source.closed


def test_a_skipped_batch_leaves_the_state_of_a_run_without_it(run: Run, other: Run) -> None:
    torn = plain()
    torn.examples[2 * GLOBAL_BATCH + 5] = OSError("torn")
    skipping = run(torn)
    (fault,) = run.recorder.faults
    assert (fault.fault_class, fault.batch) == (FaultClass.DATA_ERROR, 2)
    assert fault.delegated is Verdict.SKIP
    assert (skipping.step, skipping.batches, skipping.skipped_batches) == (STEPS, 8, 1)
    entry = Entry(
        first_batch=2,
        last_batch=2,
        slots=None,
        fault_class=FaultClass.DATA_ERROR,
        decision=Omission.SKIP,
    )
    without = other(plain(), ledger=[entry])
    assert without.state_digest == skipping.state_digest
    assert other.recorder.faults == []


def test_the_end_of_the_data_ends_the_run_with_what_was_learnt_saved(run: Run, other: Run) -> None:
    short = run(plain(5 * GLOBAL_BATCH + 7))
    assert short.reason is FinishReason.DATA_ENDED
    assert (short.step, short.batches, short.durable_step) == (5, 5, 5)
    assert short.durable
    assert run.recorder.all("decide") == run.recorder.faults == []
    longer = run(plain())
    assert (longer.reason, longer.step) == (FinishReason.COMPLETED, STEPS)
    assert longer.state_digest == other(plain()).state_digest


def test_a_run_whose_steps_are_just_reached_is_complete(run: Run) -> None:
    assert run(plain(STEPS * GLOBAL_BATCH)).reason is FinishReason.COMPLETED


def test_a_run_is_not_continued_with_data_of_another_kind(run: Run) -> None:
    run(training.Data())
    assert run(plain(), numbers={"steps": 9}).reason is FinishReason.DECIDED
    (fault,) = run.recorder.all("decide")
    assert fault.fault_class is FaultClass.DATA_ERROR
    assert "made by a run with random access" in fault.message


def test_waiting_for_the_data_is_measured_apart_from_the_step(run: Run) -> None:
    now = [0.0]
    waiting = threading.Event()

    class Slow(training.Data):
        def __getitem__(self, index: int) -> Any:
            # The template is the first example read; the first batch is read before the loop asks
            # for it, so this waits until it does.
            if len(self.reads) == 1:
                assert waiting.wait(60.0)
                now[0] += 5.0
            return super().__getitem__(index)

    def clock() -> float:
        came = now[0]
        if Phase.FIRST_STEP in {phase for phase, _ in run.recorder.all("entered")}:
            waiting.set()
        return came

    run(Slow(), clock=clock, numbers={"checkpoint_every_steps": 100})
    assert [r.data_wait_s for r in run.recorder.steps] == [5.0] + [0.0] * (STEPS - 1)
    assert [r.duration_s for r in run.recorder.steps] == [0.0] * STEPS
