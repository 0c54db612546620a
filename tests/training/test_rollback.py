"""Going back in the process: to an exact older state, and on from there without what spoilt it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fakes import training
from trainerd.actors import checkpoint_manifest
from trainerd.actors.callbacks.callback import Callback
from trainerd.actors.callbacks.state import TrainingState
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.data import Batches
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan
from trainerd.actors.program import Program
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import (
    Controls,
    Fault,
    FaultClass,
    FinishReason,
    Phase,
    Result,
    RollbackRecord,
    StepRecord,
    Verdict,
)
from trainerd.actors.rules import Rule
from trainerd.actors.spikes import Spike

pytestmark = pytest.mark.usefixtures("compiled_once")

LENGTH = 480
GLOBAL_BATCH = 12
STEPS = 18
BURST = (13, 14, 15)
"""Three in a row are one too many."""


def plan(**numbers: Any) -> Plan:
    base = {"steps": STEPS, "global_batch": GLOBAL_BATCH, "microbatch": 3, "rollback_steps": 5}
    return Plan(**{**base, "checkpoint_every_steps": 5, "checkpoint_keep": 10, **numbers})


def spoilt(*batches: int, how: Any = "nan") -> training.Data:
    made = Batches(training.Data(LENGTH), global_batch=GLOBAL_BATCH, seed=0)
    bad = (int(index) for batch in batches for index in made.indices(batch))
    return training.Data(LENGTH, spoil=dict.fromkeys(bad, how))


def left_out(first: int, last: int, kind: FaultClass = FaultClass.NON_FINITE_STEP) -> Entry:
    return Entry(
        first_batch=first, last_batch=last, slots=None, fault_class=kind, decision=Omission.SKIP
    )


def going_back(*steps: int, beyond: int = 0) -> training.Recorder:
    """A supervisor that rolls back; before going `beyond` each of `steps`, they are durable."""
    recorder = training.Recorder(verdict=lambda fault: Verdict.ROLLBACK)

    def on_step(record: StepRecord) -> None:
        due = [step for step in steps if step + 2 == record.step]
        if due and not recorder.all("rolled_back"):
            recorder.wait_for("saved", 1 + steps.index(due[0]))

    recorder.on_step = on_step
    return recorder


class Run:
    """Runs the loop in one directory, again and again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recorder = training.Recorder()

    def __call__(self, program: Program, **options: Any) -> Result:
        numbers = options.pop("numbers", {})
        self.recorder = options.pop("recorder", None) or training.Recorder()
        return run_loop(
            program,
            plan(**numbers),
            checkpoint_directory=self.directory,
            reporter=self.recorder,
            devices=options.pop("devices", jax.devices()[:1]),
            **options,
        )

    @property
    def back(self) -> RollbackRecord:
        (record,) = self.recorder.all("rolled_back")
        return record

    @property
    def steps(self) -> list[int]:
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def other(tmp_path: Path) -> Run:
    return Run(tmp_path / "other")


def test_a_burst_leads_back_to_the_state_of_a_run_that_left_it_out_from_the_start(
    run: Run, other: Run
) -> None:
    program = training.program(data=spoilt(*BURST))
    result = run(program, recorder=going_back(5, 10))
    assert run.back == RollbackRecord(
        # The step in flight, of a good batch, was landed first.
        from_step=14,
        step=5,
        first_batch=5,
        last_batch=15,
        source=str(run.directory / "5"),
        fault_class=FaultClass.NON_FINITE_STEP,
    )
    assert (result.reason, result.step) == (FinishReason.COMPLETED, STEPS)
    assert (result.batches, result.skipped_batches) == (STEPS + 11, 11)
    assert result.durable

    without = other(program, ledger=[left_out(5, 15)])
    assert without.state_digest == result.state_digest
    assert (without.batches, without.skipped_batches) == (result.batches, 11)
    assert without.loss == result.loss
    assert other.recorder.faults == []


def test_a_rollback_goes_no_further_back_than_it_must(run: Run, other: Run) -> None:
    program = training.program(data=spoilt(*BURST))
    result = run(program, recorder=going_back(5, 10), numbers={"rollback_steps": 3})
    assert (run.back.step, run.back.first_batch) == (10, 10)
    without = other(program, ledger=[left_out(10, 15)])
    assert without.state_digest == result.state_digest


def test_a_checkpoint_that_is_being_saved_is_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    awaited, write, drain = threading.Event(), checkpoint_manifest.write, CheckpointStore.drain

    def seal(path: Path, **how: Any) -> Any:
        assert path.name != "10" or awaited.wait(60.0)
        return write(path, **how)

    def see_through(store: CheckpointStore, timeout_s: float) -> bool:
        awaited.set()
        return drain(store, timeout_s)

    monkeypatch.setattr(checkpoint_manifest, "write", seal)
    monkeypatch.setattr(CheckpointStore, "drain", see_through)
    program = training.program(data=spoilt(*BURST))
    run(program, recorder=going_back(5), numbers={"rollback_steps": 3})
    assert run.back.step == 10


def test_the_decision_says_how_far_back_and_the_plan_where_it_does_not(run: Run) -> None:
    recorder = going_back(5, 10)
    recorder.rollback_steps = 9
    run(
        training.program(data=spoilt(*BURST)),
        recorder=recorder,
        numbers={"rollback_steps": 1},
    )
    # No checkpoint is that old: the oldest there is.
    assert run.back.step == 5


def test_without_any_checkpoint_the_run_begins_anew(run: Run, other: Run) -> None:
    program = training.program(data=spoilt(*BURST))
    result = run(program, recorder=going_back(), numbers={"checkpoint_every_steps": 100})
    assert (run.back.step, run.back.source) == (0, "init")
    assert (run.back.first_batch, run.back.last_batch) == (0, 15)
    without = other(program, ledger=[left_out(0, 15)])
    assert without.state_digest == result.state_digest


def test_nothing_is_compiled_again_and_the_phases_say_where_the_run_is(run: Run) -> None:
    traces = []

    def counted(params: Any, batch: Any, key: Any) -> Any:
        traces.append(1)
        return training.loss(params, batch, key)

    run(training.program(loss=counted, data=spoilt(*BURST)), recorder=going_back(5, 10))
    assert len(traces) == 1
    heard = run.recorder.heard
    asked = next(i for i, (what, _) in enumerate(heard) if what == "decide")
    after = [
        (what, value[0] if what == "entered" else None)
        for what, value in heard[asked:]
        if what in ("decide", "entered", "rolled_back")
    ]
    assert after[:4] == [
        ("decide", None),
        ("entered", Phase.RESTORE),
        ("rolled_back", None),
        ("entered", Phase.STEP),
    ]


def test_steps_go_on_from_the_older_state(run: Run) -> None:
    run(training.program(data=spoilt(*BURST)), recorder=going_back(5, 10))
    fed = [(record.step, record.batch) for record in run.recorder.steps]
    back = fed.index((6, 16))
    assert fed[back:] == [(6 + i, 16 + i) for i in range(STEPS - 5)]
    assert run.recorder.steps[back].total_skipped_batches == 11


def test_what_was_saved_since_is_removed_and_saved_again(run: Run) -> None:
    seen: list[list[int]] = []
    recorder = going_back(5, 10)
    waits = recorder.on_step

    def on_step(record: StepRecord) -> None:
        waits(record)
        if recorder.all("rolled_back") and not seen:
            seen.append(run.steps)

    recorder.on_step = on_step
    run(training.program(data=spoilt(*BURST)), recorder=recorder)
    assert seen == [[5]]
    assert 10 in run.steps
    saved = [record.step for record in recorder.all("saved")]
    assert saved[:3] == [5, 10, 10]
    assert saved[-1] == STEPS


class Killed(BaseException):
    """Stands for a process that is gone: nothing after it is done."""


@pytest.mark.parametrize("journalled", [True, False])
def test_a_crash_right_after_the_rollback_changes_nothing(
    run: Run, other: Run, journalled: bool
) -> None:
    """The newer checkpoints are there still: they are not of this run's past any more."""
    program = training.program(data=spoilt(*BURST))
    recorder = going_back(5, 10)
    told: list[RollbackRecord] = []

    def rolled_back(record: RollbackRecord) -> None:
        told.append(record)
        raise Killed

    recorder.rolled_back = rolled_back  # type: ignore[method-assign]
    with pytest.raises(Killed):
        run(program, recorder=recorder)
    assert run.steps == [5, 10]

    journal = [left_out(told[0].first_batch, told[0].last_batch)] if journalled else []
    recorder = going_back()
    found: list[list[int]] = []

    def on_step(record: StepRecord) -> None:
        found.append(run.steps)

    recorder.on_step = on_step
    result = run(program, ledger=journal, recorder=recorder)
    # They would be taken for the newest, and what is saved now would be removed for them.
    assert found[0] == ([5] if journalled else [5, 10])
    assert run.recorder.all("restored")[0][0] == (5 if journalled else 10)
    assert bool(run.recorder.all("rolled_back")) is not journalled
    without = other(program, ledger=[left_out(5, 15)])
    assert without.state_digest == result.state_digest
    assert result.durable_step == STEPS


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
def test_a_lost_state_is_gone_back_from_too(run: Run, other: Run) -> None:
    slots = GLOBAL_BATCH // 3
    data = training.Data(LENGTH)
    broken = training.program(loss=breaking_at(12 * slots + 2), data=data)
    result = run(broken, recorder=going_back(5, 10))
    (asked,) = run.recorder.all("decide")
    assert not asked.state_intact
    assert (run.back.step, run.back.last_batch) == (5, 12)
    assert run.back.fault_class is FaultClass.STEP_EXCEPTION
    without = other(
        training.program(loss=breaking_at(-1), data=data),
        ledger=[left_out(5, 12, FaultClass.STEP_EXCEPTION)],
    )
    assert without.state_digest == result.state_digest


def test_a_source_that_raises_on_and_on_is_gone_back_from(run: Run, other: Run) -> None:
    data = spoilt(12, how=OSError("torn"))
    none = Rule(action=Verdict.SKIP, limit=0, window_s=600.0)
    result = run(
        training.program(data=data), recorder=going_back(5, 10), numbers={"data_error": none}
    )
    assert (run.back.fault_class, run.back.last_batch) == (FaultClass.DATA_ERROR, 12)
    without = other(training.program(data=data), ledger=[left_out(5, 12, FaultClass.DATA_ERROR)])
    assert without.state_digest == result.state_digest


def test_an_iterator_goes_back_with_the_run(run: Run, other: Run) -> None:
    bad = training.Data(LENGTH, spoil={})
    examples: list[Any] = [bad[index] for index in range(LENGTH)]
    for batch in BURST:
        for place in range(batch * GLOBAL_BATCH, (batch + 1) * GLOBAL_BATCH):
            examples[place] = {**examples[place], "y": np.float32(np.nan)}
    result = run(training.program(data=training.Stream(examples)), recorder=going_back(5, 10))
    assert run.back.step == 5
    without = other(training.program(data=training.Stream(examples)), ledger=[left_out(5, 15)])
    assert without.state_digest == result.state_digest


def test_an_iterator_goes_back_to_its_beginning(run: Run, other: Run) -> None:
    bad = training.Data(LENGTH, spoil={})
    examples: list[Any] = [bad[index] for index in range(LENGTH)]
    for place in range(3 * GLOBAL_BATCH, 6 * GLOBAL_BATCH):
        examples[place] = {**examples[place], "y": np.float32(np.nan)}
    never = {"checkpoint_every_steps": 100}
    result = run(
        training.program(data=training.Stream(examples)), recorder=going_back(), numbers=never
    )
    assert run.back.source == "init"
    without = other(
        training.program(data=training.Stream(examples)), ledger=[left_out(0, 5)], numbers=never
    )
    assert without.state_digest == result.state_digest


def test_thresholds_of_spikes_are_those_of_the_older_state(run: Run, other: Run) -> None:
    numbers = {"spike": Spike(z=50.0, min_history=2, history=4)}
    program = training.program(data=spoilt(*BURST))
    result = run(program, recorder=going_back(5, 10), numbers=numbers)
    without = other(program, ledger=[left_out(5, 15)], numbers=numbers)
    assert without.state_digest == result.state_digest
    assert [f.batch for f in run.recorder.faults if f.batch > 15] == [
        f.batch for f in other.recorder.faults
    ]


def test_allowances_begin_anew(run: Run) -> None:
    """Two bad batches before and two after: the row of three is broken by the rollback."""
    program = training.program(data=spoilt(*BURST, 16, 17))
    result = run(program, recorder=going_back(5, 10))
    assert len(run.recorder.all("decide")) == 1
    assert result.reason is FinishReason.COMPLETED


def test_what_was_dealt_with_beside_the_offending_batch_is_told_too(run: Run) -> None:
    run(training.program(data=spoilt(*BURST, 16)), recorder=going_back(5, 10))
    (asked,) = run.recorder.all("decide")
    assert asked.batch == 15
    assert [(f.batch, f.delegated) for f in run.recorder.faults] == [
        (13, Verdict.SKIP),
        (14, Verdict.SKIP),
        (16, Verdict.SKIP),
    ]


def test_more_devices_go_back_as_exactly(run: Run, other: Run) -> None:
    program = training.program(data=spoilt(*BURST))
    eight = {"numbers": {"microbatch": 1}, "devices": jax.devices()[:8]}
    result = run(program, recorder=going_back(5, 10), **eight)
    assert run.back.step == 5
    without = other(program, ledger=[left_out(5, 15)], **eight)
    assert without.state_digest == result.state_digest


class Watching(Callback):
    """Remembers the hooks it was called by, with the step and the epoch."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, int]] = []

    def on_train_begin(self, state: TrainingState) -> None:
        self.heard.append(("begin", state.step, state.epoch))

    def on_epoch_begin(self, state: TrainingState) -> None:
        self.heard.append(("epoch", state.step, state.epoch))

    def on_step_end(self, state: TrainingState) -> None:
        self.heard.append(("step", state.step, state.epoch))

    def on_train_end(self, state: TrainingState) -> None:
        self.heard.append(("end", state.step, state.epoch))


def test_callbacks_live_on_and_see_the_steps_go_back(run: Run) -> None:
    watching = Watching()
    data = spoilt(*BURST)
    run(training.program(data=data, callbacks=(watching,)), recorder=going_back(5, 10))
    hooks = [hook for hook, _, _ in watching.heard]
    assert (hooks.count("begin"), hooks.count("end")) == (1, 1)
    again = watching.heard.index(("epoch", 5, 0))
    assert watching.heard[again + 1] == ("step", 6, 0)


def test_evaluations_are_made_again(run: Run) -> None:
    program = training.program(data=spoilt(*BURST), evaluate=lambda params: {"n": 1.0})
    run(program, recorder=going_back(5, 10), numbers={"evaluate_every_steps": 9})
    assert [step for step, _ in run.recorder.all("evaluated")] == [0, 9, 9, STEPS]


def test_where_nothing_can_be_restored_another_decision_is_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainerd.actors.states import States

    def broken(_self: States, _left_out: Any, at_most_step: int | None = None, **_: Any) -> None:
        if at_most_step is not None:
            raise OSError("no disk")

    monkeypatch.setattr(States, "stored", broken)
    result = run(training.program(data=spoilt(*BURST)), recorder=going_back(5, 10))
    asked: list[Fault] = run.recorder.all("decide")
    assert [fault.phase for fault in asked] == [Phase.STEP, Phase.RESTORE]
    assert not asked[1].state_intact
    assert result.reason is FinishReason.DECIDED
    assert result.state_digest == ""
    assert run.recorder.all("rolled_back") == []


def test_a_stop_asked_for_before_is_heard_afterwards(run: Run) -> None:
    controls = Controls()
    recorder = going_back(5, 10)
    decide: Callable[[Fault], Verdict] = recorder.verdict

    def verdict(fault: Fault) -> Verdict:
        controls.stop(FinishReason.STOPPED)
        return decide(fault)

    recorder.verdict = verdict
    result = run(training.program(data=spoilt(*BURST)), recorder=recorder, controls=controls)
    assert (result.reason, result.step) == (FinishReason.STOPPED, 5)
    assert result.durable
