"""The loop: exact across interruptions, obedient at boundaries, honest about faults."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fakes import training
from trainerd.actors.batch_files import BatchFiles
from trainerd.actors.data import Batches
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan, Rule
from trainerd.actors.program import Program
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import (
    Controls,
    Fault,
    FaultClass,
    FinishReason,
    Phase,
    Result,
    StepRecord,
    Verdict,
)

pytestmark = pytest.mark.usefixtures("compiled_once")

STEPS = 12
GLOBAL_BATCH = 12


def plan(**numbers: Any) -> Plan:
    base = {"steps": STEPS, "global_batch": GLOBAL_BATCH, "microbatch": 3}
    return Plan(**{**base, "checkpoint_every_steps": 5, **numbers})


class Run:
    """Runs the loop in one directory, again and again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recorder = training.Recorder()
        self.evidence = BatchFiles(place=lambda batch: directory.with_name(f"batch-{batch}.npz"))

    def kept(self) -> list[int]:
        """Batches that lie there as evidence."""
        files = self.directory.parent.glob("batch-*.npz")
        return sorted(int(file.stem.partition("-")[2]) for file in files)

    def __call__(self, program: Program | None = None, **options: Any) -> Result:
        numbers = options.pop("numbers", {})
        self.recorder = options.pop("recorder", None) or training.Recorder()
        return run_loop(
            program or training.program(),
            plan(**numbers),
            checkpoint_directory=self.directory,
            reporter=self.recorder,
            devices=options.pop("devices", jax.devices()[:1]),
            **options,
        )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def other(tmp_path: Path) -> Run:
    return Run(tmp_path / "other")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return Run(tmp_path_factory.mktemp("undisturbed"))()


def batch_with(index: int) -> int:
    made = Batches(training.Data(), global_batch=GLOBAL_BATCH, seed=0)
    return next(b for b in range(8) if index in made.indices(b))


def examples_of(*batches: int) -> list[int]:
    made = Batches(training.Data(), global_batch=GLOBAL_BATCH, seed=0)
    return [int(index) for batch in batches for index in made.indices(batch)]


def saved(recorder: training.Recorder, *steps: int) -> training.Recorder:
    """Make a run wait, before it goes far beyond one of `steps`, until that step is durable."""

    def on_step(record: StepRecord) -> None:
        if record.step in [step + 2 for step in steps]:
            recorder.wait_for("saved", 1 + steps.index(record.step - 2))

    recorder.on_step = on_step
    return recorder


def at(step: int, act: Any) -> Any:
    """Call `act` when the record of `step` arrives."""

    def on_step(record: StepRecord) -> None:
        if record.step == step:
            act()

    return on_step


def test_a_run_says_where_it_is_and_what_it_did(run: Run) -> None:
    result = run()
    recorder = run.recorder
    assert result.reason is FinishReason.COMPLETED
    assert (result.step, result.batches, result.durable_step) == (STEPS, STEPS, STEPS)
    assert result.durable
    assert result.checkpoint == str(run.directory / str(STEPS))
    assert recorder.phases == [
        Phase.INIT,
        Phase.RESTORE,
        Phase.COMPILE,
        Phase.FIRST_STEP,
        Phase.STEP,
        Phase.SAVE,
        Phase.DRAIN,
    ]
    assert [(r.step, r.batch) for r in recorder.steps] == [(i + 1, i) for i in range(STEPS)]
    assert all(r.applied and r.examples == GLOBAL_BATCH for r in recorder.steps)
    assert all(r.metrics["double"] == pytest.approx(2 * r.loss) for r in recorder.steps)
    assert result.loss == recorder.steps[-1].loss < recorder.steps[0].loss
    assert recorder.all("saved")[-1].step == STEPS
    assert recorder.faults == recorder.all("decide") == []


def test_a_state_that_was_made_is_said_to_have_been(run: Run) -> None:
    run()
    assert run.recorder.all("restored") == [(0, 0, "init")]


def test_what_was_restored_from_elsewhere_is_saved_at_home_at_once(
    run: Run, other: Run, undisturbed: Result
) -> None:
    controls = Controls()
    stop = at(3, lambda: controls.stop(FinishReason.STOPPED))
    stopped = other(controls=controls, recorder=training.Recorder(on_step=stop))
    again = run(restore_directories=[other.directory], numbers={"checkpoint_every_steps": 100})
    assert [record.step for record in run.recorder.all("saved")] == [stopped.step, STEPS]
    assert again.state_digest == undisturbed.state_digest


def test_the_same_run_ends_in_the_same_state(run: Run, undisturbed: Result) -> None:
    assert run().state_digest == undisturbed.state_digest


def test_more_devices_run_the_same_slots(run: Run, undisturbed: Result) -> None:
    result = run(devices=jax.devices()[:4])
    assert result.loss == pytest.approx(undisturbed.loss, rel=1e-5)
    assert (result.step, result.batches) == (STEPS, STEPS)


def test_a_run_traces_the_loss_once(run: Run) -> None:
    calls = []

    def counted(params: Any, batch: Any, key: Any) -> Any:
        calls.append(1)
        return training.loss(params, batch, key)

    run(training.program(loss=counted, data=training.Data(spoil={9: "nan"})))
    assert len(calls) == 1


def test_the_first_batch_is_read_while_the_step_is_compiled(run: Run) -> None:
    read = threading.Event()
    in_time: list[bool] = []

    class Telling(training.Data):
        def __getitem__(self, index: int) -> Any:
            example = super().__getitem__(index)
            if len(self.reads) > GLOBAL_BATCH:
                read.set()
            return example

    def traced(params: Any, batch: Any, key: Any) -> Any:
        if not in_time:
            in_time.append(read.wait(30.0))
        return training.loss(params, batch, key)

    program = training.program(data=Telling(), loss=traced)
    assert run(program, numbers={"steps": 1}).reason is FinishReason.COMPLETED
    assert in_time == [True]


def test_nothing_is_read_that_the_run_does_not_need(run: Run) -> None:
    data = training.Data()
    run(training.program(data=data))
    template = 1
    assert len(data.reads) == template + STEPS * GLOBAL_BATCH


@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_stopping_and_resuming_changes_nothing(run: Run, undisturbed: Result, stop_at: int) -> None:
    controls = Controls()
    stop = at(stop_at, lambda: controls.stop(FinishReason.STOPPED))
    stopped = run(controls=controls, recorder=training.Recorder(on_step=stop))
    assert stopped.reason is FinishReason.STOPPED
    assert stopped.durable
    assert stop_at <= stopped.step == stopped.durable_step <= stop_at + 2
    assert run().state_digest == undisturbed.state_digest
    ((step, batch, source),) = run.recorder.all("restored")
    assert (step, batch) == (stopped.step, stopped.batches)
    assert source == stopped.checkpoint


def test_a_stop_without_saving_goes_back_to_the_last_checkpoint(
    run: Run, undisturbed: Result
) -> None:
    controls = Controls()
    stop = at(7, lambda: controls.stop(FinishReason.PREEMPTED, save=False))
    stopped = run(controls=controls, recorder=training.Recorder(on_step=stop))
    assert stopped.reason is FinishReason.PREEMPTED
    assert not stopped.durable
    assert stopped.durable_step == 5
    assert run().state_digest == undisturbed.state_digest
    assert run.recorder.all("restored")[0][0] == 5


def test_a_finished_run_is_finished(run: Run, undisturbed: Result) -> None:
    run()
    again = run()
    assert again.reason is FinishReason.COMPLETED
    assert again.durable
    assert again.state_digest == undisturbed.state_digest
    assert again.loss == undisturbed.loss
    assert run.recorder.steps == []


def test_a_pause_saves_holds_and_goes_on(run: Run, undisturbed: Result) -> None:
    controls = Controls()
    recorder = training.Recorder(on_step=at(3, controls.pause))
    results: list[Result] = []
    loop = threading.Thread(
        target=lambda: results.append(run(controls=controls, recorder=recorder))
    )
    loop.start()
    try:
        (held,) = recorder.wait_for("paused")
        assert 3 <= held <= 5
        assert any(r.step == held for r in recorder.all("saved"))
        assert recorder.phases[-1] is Phase.PAUSED
        controls.save("while paused")
        recorder.wait_for("saved", 2)
        assert recorder.all("saved")[-1].request_ids == ("while paused",)
        seen = len(recorder.steps)
        assert recorder.steps[-1].step == held
    finally:
        controls.resume()
        loop.join(60.0)
    assert not loop.is_alive()
    assert len(recorder.steps) - seen == STEPS - held
    assert recorder.all("resumed") == [held]
    assert results[0].state_digest == undisturbed.state_digest


def test_a_paused_run_can_be_stopped(run: Run) -> None:
    controls = Controls()
    recorder = training.Recorder(on_step=at(3, controls.pause))
    results: list[Result] = []
    loop = threading.Thread(
        target=lambda: results.append(run(controls=controls, recorder=recorder))
    )
    loop.start()
    recorder.wait_for("paused")
    controls.stop(FinishReason.STOPPED)
    loop.join(60.0)
    assert not loop.is_alive()
    assert results[0].reason is FinishReason.STOPPED
    assert results[0].durable


def test_a_save_on_request_is_answered_by_name(run: Run) -> None:
    controls = Controls()
    run(
        controls=controls,
        recorder=training.Recorder(on_step=at(7, lambda: controls.save("req-1"))),
    )
    answers = [r.step for r in run.recorder.all("saved") if "req-1" in r.request_ids]
    assert len(answers) == 1
    assert 7 <= answers[0] <= STEPS


def test_a_stop_is_heard_while_the_source_is_stuck(run: Run) -> None:
    controls, gate = Controls(), threading.Event()

    class Stuck(training.Data):
        def __getitem__(self, index: int) -> Any:
            if len(self.reads) > 4 * GLOBAL_BATCH:
                controls.stop(FinishReason.STOPPED)
                assert gate.wait(60.0)
            return super().__getitem__(index)

    recorder = training.Recorder(on_step=at(4, lambda: None))
    results: list[Result] = []
    loop = threading.Thread(
        target=lambda: results.append(
            run(training.program(data=Stuck()), controls=controls, recorder=recorder)
        )
    )
    loop.start()
    recorder.wait_for("saved")
    gate.set()
    loop.join(60.0)
    assert results[0].reason is FinishReason.STOPPED
    assert results[0].step == results[0].durable_step == 4


def test_evaluations_are_first_last_and_every_so_many(run: Run) -> None:
    def evaluate(params: Any) -> dict[str, Any]:
        return {"norm": jnp.linalg.norm(params["a"])}

    run(training.program(evaluate=evaluate), numbers={"evaluate_every_steps": 5})
    evaluated = run.recorder.all("evaluated")
    assert [step for step, _ in evaluated] == [0, 5, 10, STEPS]
    assert all(isinstance(metrics["norm"], float) for _, metrics in evaluated)
    assert run.recorder.phases.count(Phase.EVALUATE) == 4


def test_a_masked_slot_is_reported_and_replayed(run: Run, other: Run) -> None:
    data = {9: "nan"}
    batch = batch_with(9)
    full = run(training.program(data=training.Data(spoil=data)))
    (fault,) = run.recorder.faults[:1]
    assert fault.fault_class is FaultClass.NON_FINITE_MICROBATCH
    assert fault.delegated is Verdict.MASK
    assert fault.batch == batch
    assert len(fault.slots) == 1
    record = run.recorder.steps[batch]
    assert record.masked_slots == fault.slots
    assert record.examples == GLOBAL_BATCH - 3
    assert full.masked_slots == len(run.recorder.faults)

    # The same from a clean source with the ledger present from the start: nothing is new.
    ledger = [
        Entry(
            first_batch=f.batch,
            last_batch=f.batch,
            slots=f.slots,
            fault_class=f.fault_class,
            decision=Omission.MASK,
        )
        for f in run.recorder.faults
    ]
    replayed = other(training.program(data=training.Data()), ledger=ledger)
    assert replayed.state_digest == full.state_digest
    assert replayed.masked_slots == full.masked_slots
    assert other.recorder.faults == []


SPOILERS = {
    "nan": (lambda index: "nan", FaultClass.NON_FINITE_STEP),
    "raises": (lambda index: OSError("torn"), FaultClass.DATA_ERROR),
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_a_skipped_batch_leaves_the_state_of_a_run_without_it(
    run: Run, other: Run, kind: str
) -> None:
    spoil, fault_class = SPOILERS[kind]
    bad = dict.fromkeys(examples_of(2), spoil(0))
    skipping = run(training.program(data=training.Data(spoil=bad)), numbers={"steps": 6})
    (fault,) = run.recorder.faults
    assert (fault.fault_class, fault.batch, fault.delegated) == (fault_class, 2, Verdict.SKIP)
    assert (skipping.step, skipping.batches, skipping.skipped_batches) == (6, 7, 1)
    assert [r.applied for r in run.recorder.steps] == [True, True, False] + [True] * 4
    assert run.recorder.steps[-1].total_skipped_batches == 1

    entry = Entry(
        first_batch=2, last_batch=2, slots=None, fault_class=fault_class, decision=Omission.SKIP
    )
    without = other(ledger=[entry], numbers={"steps": 6})
    assert without.state_digest == skipping.state_digest
    assert without.skipped_batches == 1
    assert other.recorder.faults == []
    assert [r.batch for r in other.recorder.steps] == [0, 1, 3, 4, 5, 6]


def test_what_a_checkpoint_knows_to_be_bad_is_not_fed_again(run: Run, other: Run) -> None:
    bad = dict.fromkeys(examples_of(2), "nan")
    program = training.program(data=training.Data(spoil=bad))
    controls = Controls()
    stop = at(5, lambda: controls.stop(FinishReason.STOPPED))
    run(program, controls=controls, recorder=training.Recorder(on_step=stop))
    resumed = run(training.program(data=training.Data()), numbers={"steps": 6})
    straight = other(training.program(data=training.Data(spoil=bad)), numbers={"steps": 6})
    assert resumed.state_digest == straight.state_digest
    assert resumed.skipped_batches == 1


def test_the_journal_wins_over_an_older_checkpoint(run: Run, other: Run) -> None:
    """A skip that is newer than the checkpoint comes from the journal, and is not fed again."""
    bad = dict.fromkeys(examples_of(6), "nan")
    program = training.program(data=training.Data(spoil=bad))
    controls = Controls()
    stop = at(8, lambda: controls.stop(FinishReason.STOPPED, save=False))
    crashed = run(program, controls=controls, recorder=training.Recorder(on_step=stop))
    assert crashed.durable_step == 5
    journal = [
        Entry(
            first_batch=fault.batch,
            last_batch=fault.batch,
            slots=None,
            fault_class=fault.fault_class,
            decision=Omission.SKIP,
        )
        for fault in run.recorder.faults
        if fault.delegated is Verdict.SKIP
    ]
    assert journal[0].first_batch == 6
    resumed = run(program, ledger=journal)
    assert 6 not in [r.batch for r in run.recorder.steps]
    straight = other(training.program(data=training.Data(spoil=bad)))
    assert resumed.state_digest == straight.state_digest


def test_a_spent_budget_asks_and_may_go_on(run: Run) -> None:
    bad = dict.fromkeys(examples_of(2, 3, 4), "nan")
    kept: list[int] = []

    def decide(fault: Fault) -> Verdict:
        kept.extend(run.kept())
        return Verdict.SKIP

    recorder = training.Recorder(verdict=decide)
    program = training.program(data=training.Data(spoil=bad))
    result = run(program, recorder=recorder, evidence=run.evidence)
    assert [f.batch for f in recorder.faults][:2] == [2, 3]
    assert kept == [4], "of those that the step deals with alone nothing is kept"
    assert run.kept() == [], "it goes on as before"
    (asked,) = recorder.all("decide")
    assert asked.batch == 4
    assert "3 in a row, limit 3" in asked.message
    assert asked.state_intact
    assert result.reason is FinishReason.COMPLETED


def test_a_spent_budget_may_end_the_run(run: Run) -> None:
    bad = dict.fromkeys(examples_of(2, 3, 4), "nan")
    data = training.Data(spoil=bad)
    result = run(training.program(data=data), evidence=run.evidence)
    assert result.reason is FinishReason.DECIDED
    assert run.kept() == [4]
    with np.load(run.evidence.place(4)) as kept:
        fed = Batches(data, global_batch=GLOBAL_BATCH, seed=0).read(4)
        np.testing.assert_array_equal(kept["batch/x"], fed["x"])
        np.testing.assert_array_equal(kept["batch/y"], fed["y"])
        np.testing.assert_array_equal(kept["weights"], np.ones(4))
    # Batch 5 was in flight, and every decision follows a drain.
    assert (result.step, result.skipped_batches) == (3, 3)
    assert not result.durable
    assert result.state_digest


def test_a_policy_that_skips_nothing_alone_asks_at_once(run: Run) -> None:
    bad = dict.fromkeys(examples_of(2), "nan")
    rule = Rule(action=Verdict.RESTART, limit=9, window_s=9.0)
    result = run(training.program(data=training.Data(spoil=bad)), numbers={"non_finite_step": rule})
    (asked,) = run.recorder.all("decide")
    assert (asked.batch, asked.delegated) == (2, None)
    assert result.reason is FinishReason.DECIDED


def test_a_policy_may_skip_where_it_could_mask(run: Run) -> None:
    rule = Rule(action=Verdict.SKIP, limit=9, window_s=600.0)
    run(
        training.program(data=training.Data(spoil={9: "nan"})),
        numbers={"non_finite_microbatch": rule},
    )
    fault = run.recorder.faults[0]
    assert (fault.fault_class, fault.delegated) == (
        FaultClass.NON_FINITE_MICROBATCH,
        Verdict.SKIP,
    )
    assert not run.recorder.steps[batch_with(9)].applied


def breaking_at(call: int) -> Any:
    """A loss whose host callback raises once, at its n-th call over all runs."""
    calls = itertools.count(1)

    def host(x: Any) -> None:
        if next(calls) == call:
            raise RuntimeError("user boom")

    def loss(params: Any, batch: Any, key: Any) -> Any:
        error, metrics = training.loss(params, batch, key)
        jax.debug.callback(host, error)
        return error, metrics

    return loss


# JAX logs what a callback raises.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_state_is_never_continued_on(run: Run, other: Run) -> None:
    slots = GLOBAL_BATCH // 3
    kept: list[int] = []

    def decide(fault: Fault) -> Verdict:
        kept.extend(run.kept())
        return Verdict.SKIP

    verdicts = training.Recorder(verdict=decide)
    loss = breaking_at(7 * slots + 2)
    broken = run(training.program(loss=loss), recorder=verdicts, evidence=run.evidence)
    assert kept == [7]
    (asked,) = run.recorder.all("decide")
    assert asked.fault_class is FaultClass.STEP_EXCEPTION
    assert asked.message.endswith("RuntimeError: user boom")
    assert not asked.state_intact
    assert (asked.batch, asked.step) == (7, 7)
    assert broken.reason is FinishReason.DECIDED
    assert (broken.step, broken.state_digest, broken.durable_step) == (7, "", 5)

    recovered = run(training.program(loss=loss))
    straight = other(training.program(loss=breaking_at(-1)))
    assert recovered.state_digest == straight.state_digest


@pytest.mark.parametrize(
    ("changes", "phase", "expected"),
    [
        ({"init": lambda key: 1 / 0}, Phase.INIT, "ZeroDivisionError"),
        ({"loss": lambda p, b, k: p["nope"]}, Phase.COMPILE, "KeyError: 'nope'"),
        ({"data": [1.0]}, Phase.INIT, "a batch needs 12"),
        ({"loss": lambda p, b, k: b["y"]}, Phase.COMPILE, "floating-point scalar"),
    ],
)
def test_a_program_that_does_not_work_is_a_fault_with_its_phase(
    run: Run, changes: Any, phase: Phase, expected: str
) -> None:
    result = run(training.program(**changes))
    assert result.reason is FinishReason.DECIDED
    (fault,) = run.recorder.all("decide")
    assert fault.phase is phase
    assert expected in fault.message
    assert "trainerd/actors/loop.py" not in fault.detail


def test_an_evaluation_that_raises_is_decided_on(run: Run) -> None:
    def evaluate(params: Any) -> Any:
        raise RuntimeError("no validation data")

    program = training.program(evaluate=evaluate)
    assert run(program).reason is FinishReason.DECIDED
    (fault,) = run.recorder.all("decide")
    assert (fault.phase, fault.state_intact) == (Phase.EVALUATE, True)
    assert "in evaluate" in fault.detail
    going_on = training.Recorder(verdict=lambda fault: Verdict.CONTINUE)
    assert run(program, recorder=going_on).reason is FinishReason.COMPLETED


def test_a_weight_that_raises_skips_its_batch_as_a_data_error(run: Run) -> None:
    calls = itertools.count()

    def weight(batch: Any) -> float:
        if next(calls) == 5:
            raise ValueError("cannot weigh")
        return float(len(batch["y"]))

    run(training.program(weight=weight))
    (fault,) = run.recorder.faults
    assert (fault.fault_class, fault.batch) == (FaultClass.DATA_ERROR, 1)
    assert "cannot weigh" in fault.message


def test_a_run_whose_last_state_cannot_be_saved_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = Run(tmp_path / "file" / "run")
    result = blocked(numbers={"final_save_timeout_s": 0.2})
    assert result.reason is FinishReason.COMPLETED
    assert not result.durable
    assert result.durable_step == -1
    assert {f.reason for f in blocked.recorder.faults} == {"not_found"}


def test_another_run_s_checkpoints_are_not_continued(run: Run) -> None:
    run()
    result = run(numbers={"seed": 1, "steps": 20})
    assert result.reason is FinishReason.DECIDED
    (fault,) = run.recorder.all("decide")
    assert "seed was 0, is 1" in fault.message


def test_slots_are_fixed_once(run: Run) -> None:
    numbers = {"microbatch": None, "accumulate_steps": 2}
    run(devices=jax.devices()[:2], numbers={**numbers, "steps": 3})
    assert run.recorder.all("slots_fixed") == [4]
    run(devices=jax.devices()[:1], numbers={**numbers, "steps": 6})
    assert run.recorder.all("slots_fixed") == [4]
    run(devices=jax.devices()[:1], numbers={**numbers, "slots": 4, "steps": 8})
    assert run.recorder.all("slots_fixed") == []


def test_damage_is_passed_over_and_repaired(run: Run, undisturbed: Result) -> None:
    run(recorder=saved(training.Recorder(), 5, 10))
    (run.directory / str(STEPS) / "meta" / "metadata").write_text("gone")
    again = run()
    assert [f.fault_class for f in run.recorder.faults] == [FaultClass.CHECKPOINT_CORRUPT]
    assert run.recorder.all("restored")[0][0] == 10
    assert again.state_digest == undisturbed.state_digest
    assert again.durable


def test_when_all_checkpoints_are_damaged_nothing_is_begun_anew(run: Run) -> None:
    run(recorder=saved(training.Recorder(), 5, 10))
    for step in (5, 10, STEPS):
        (run.directory / str(step) / "meta" / "metadata").write_text("gone")
    result = run()
    assert result.reason is FinishReason.DECIDED
    (fault,) = run.recorder.all("decide")
    assert (fault.fault_class, fault.reason) == (FaultClass.CHECKPOINT_CORRUPT, "none_left")


def test_durations_belong_to_their_own_step(run: Run) -> None:
    """A slow step is slow, the one after it is not; with a clock that the loss moves by hand."""
    now = [0.0]

    def host(x: Any) -> None:
        now[0] += 0.001 if np.isfinite(x) else 10.0

    def loss(params: Any, batch: Any, key: Any) -> Any:
        error, metrics = training.loss(params, batch, key)
        jax.debug.callback(host, error)
        return error, metrics

    bad = dict.fromkeys(examples_of(4), "nan")
    run(
        training.program(loss=loss, data=training.Data(spoil=bad)),
        clock=lambda: now[0],
        numbers={"steps": 6, "checkpoint_every_steps": 100},
    )
    durations = {r.batch: r.duration_s for r in run.recorder.steps}
    assert durations.pop(4) >= 10.0
    assert max(durations.values()) < 10.0


def test_a_step_that_cannot_be_dispatched_is_skipped_where_the_state_is_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainerd.actors.pipeline import Pipeline

    dispatch = Pipeline.dispatch

    def refusing(self: Any, loaded: Any, *args: Any, **options: Any) -> None:
        if loaded.batch == 3:
            raise TypeError("cannot be placed")
        dispatch(self, loaded, *args, **options)

    monkeypatch.setattr(Pipeline, "dispatch", refusing)

    def decide(fault: Fault) -> Verdict:
        assert (fault.fault_class, fault.batch) == (FaultClass.STEP_EXCEPTION, 3)
        assert fault.state_intact
        assert run.kept() == [3]
        return Verdict.SKIP

    result = run(
        evidence=run.evidence, recorder=training.Recorder(verdict=decide), numbers={"steps": 6}
    )
    assert (result.step, result.batches, result.skipped_batches) == (6, 7, 1)
    # It was asked about, once, and is not reported again.
    assert [f.batch for f in run.recorder.all("decide")] == [3]
    assert run.recorder.faults == []
