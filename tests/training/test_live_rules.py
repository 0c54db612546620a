"""Rules that change while a run trains, and masks that give way to skips: without compiling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

from fakes import training
from trainerd.actors.data import Batches
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import FaultClass, FinishReason, Result, StepRecord, Verdict
from trainerd.actors.rules import Rule, Rulebook, Rules
from trainerd.actors.spikes import Spike

pytestmark = pytest.mark.usefixtures("compiled_once")

LENGTH = 480
GLOBAL_BATCH = 12
SLOT_EXAMPLES = 3
MASK_TWO = Rule(action=Verdict.MASK, limit=2, window_s=100.0)


def one_bad_slot(*batches: int) -> training.Data:
    """NaN in slot 1 of each of `batches`."""
    made = Batches(training.Data(LENGTH), global_batch=GLOBAL_BATCH, seed=0)
    return training.Data(
        LENGTH, spoil={int(made.indices(batch)[SLOT_EXAMPLES]): "nan" for batch in batches}
    )


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(
    directory: Path,
    data: training.Data,
    recorder: training.Recorder,
    *,
    loss: Any = training.loss,
    ledger: list[Entry] | None = None,
    rulebook: Rulebook | None = None,
    clock: Callable[[], float] | None = None,
    **numbers: Any,
) -> Result:
    base = {"steps": 12, "global_batch": GLOBAL_BATCH, "microbatch": SLOT_EXAMPLES}
    return run_loop(
        training.program(data=data, loss=loss),
        Plan(**{**base, "checkpoint_every_steps": 100, **numbers}),
        checkpoint_directory=directory,
        reporter=recorder,
        devices=jax.devices()[:1],
        ledger=ledger or [],
        rulebook=rulebook,
        clock=clock or Clock(),
    )


def entries(recorder: training.Recorder) -> list[Entry]:
    """What the journal makes of the faults that were reported."""
    return [
        Entry(
            first_batch=fault.batch,
            last_batch=fault.batch,
            slots=fault.slots if fault.delegated is Verdict.MASK else None,
            fault_class=fault.fault_class,
            decision=Omission.MASK if fault.delegated is Verdict.MASK else Omission.SKIP,
        )
        for fault in [*recorder.faults, *recorder.all("decide")]
    ]


def test_a_spent_mask_gives_way_to_skips_and_comes_back_after_its_window(tmp_path: Path) -> None:
    clock = Clock()
    traces = []

    def counted(params: Any, batch: Any, key: Any) -> Any:
        traces.append(1)
        return training.loss(params, batch, key)

    def on_step(record: StepRecord) -> None:
        if record.batch == 7:
            clock.now += 101.0

    recorder = training.Recorder(verdict=lambda fault: Verdict.SKIP, on_step=on_step)
    data = one_bad_slot(1, 2, 3, 5, 6, 10)
    result = run(
        tmp_path / "run",
        data,
        recorder,
        loss=counted,
        clock=clock,
        non_finite_microbatch=MASK_TWO,
    )
    (asked,) = recorder.all("decide")
    assert (asked.batch, asked.delegated) == (3, Verdict.MASK)
    assert [(f.batch, f.delegated) for f in recorder.faults] == [
        (1, Verdict.MASK),
        (2, Verdict.MASK),
        (5, Verdict.SKIP),
        (6, Verdict.SKIP),
        (10, Verdict.MASK),
    ]
    assert all(f.fault_class is FaultClass.NON_FINITE_MICROBATCH for f in recorder.faults)
    assert len(traces) == 1
    assert (result.skipped_batches, result.masked_slots) == (2, 4)

    replayed = training.Recorder()
    without = run(tmp_path / "other", training.Data(LENGTH), replayed, ledger=entries(recorder))
    assert without.state_digest == result.state_digest
    assert replayed.faults == []


def test_skips_that_are_spent_too_say_that_they_were_skips(tmp_path: Path) -> None:
    verdicts = iter([Verdict.SKIP, Verdict.FAIL])
    recorder = training.Recorder(verdict=lambda fault: next(verdicts))
    result = run(
        tmp_path / "run",
        one_bad_slot(*range(1, 8)),
        recorder,
        non_finite_microbatch=MASK_TWO,
    )
    assert [(f.batch, f.delegated) for f in recorder.all("decide")] == [
        (3, Verdict.MASK),
        (6, Verdict.SKIP),
    ]
    # Batch 4 was in flight, dispatched to be masked; it counts among those after the decision.
    assert [(f.batch, f.delegated) for f in recorder.faults][2:4] == [
        (4, Verdict.MASK),
        (5, Verdict.SKIP),
    ]
    assert result.reason is FinishReason.DECIDED


def changing(book: Rulebook, rules: Rules, at_batch: int) -> training.Recorder:
    def on_step(record: StepRecord) -> None:
        if record.batch == at_batch:
            book.change(rules)

    return training.Recorder(verdict=lambda fault: Verdict.SKIP, on_step=on_step)


def test_a_changed_policy_counts_from_the_next_step_on_and_compiles_nothing(
    tmp_path: Path,
) -> None:
    traces = []

    def counted(params: Any, batch: Any, key: Any) -> Any:
        traces.append(1)
        return training.loss(params, batch, key)

    skip = Rule(action=Verdict.SKIP, limit=9, window_s=100.0)
    book = Rulebook(version=1)
    recorder = changing(book, Rules(version=2, non_finite_microbatch=skip), at_batch=4)
    run(
        tmp_path / "run",
        one_bad_slot(1, 8),
        recorder,
        loss=counted,
        rulebook=book,
        policy_version=1,
    )
    assert [(f.batch, f.delegated, f.policy_version) for f in recorder.faults] == [
        (1, Verdict.MASK, 1),
        (8, Verdict.SKIP, 2),
    ]
    assert len(traces) == 1


def test_what_was_spent_stays_spent_under_other_rules(tmp_path: Path) -> None:
    book = Rulebook()
    less = Rule(action=Verdict.MASK, limit=1, window_s=100.0)
    recorder = changing(book, Rules(version=1, non_finite_microbatch=less), at_batch=4)
    run(tmp_path / "run", one_bad_slot(1, 8), recorder, rulebook=book)
    (asked,) = recorder.all("decide")
    assert (asked.batch, asked.policy_version) == (8, 1)
    assert "2 in 100 s, limit 1" in asked.message


def spiking(*batches: int) -> training.Data:
    data = training.Data(LENGTH)
    made = Batches(training.Data(LENGTH), global_batch=GLOBAL_BATCH, seed=0)
    for batch in batches:
        data.y[made.indices(batch)] = 1e4
    return data


def test_the_spike_guard_can_be_switched_on_and_off_and_set(tmp_path: Path) -> None:
    guard = Spike(z=20.0, min_history=3, history=8)
    on, off = Rulebook(), Rulebook()
    recorder = changing(on, Rules(version=1, spike=guard), at_batch=1)
    run(tmp_path / "on", spiking(9), recorder, rulebook=on)
    assert [(f.fault_class, f.batch) for f in recorder.faults] == [(FaultClass.LOSS_SPIKE, 9)]

    recorder = changing(off, Rules(version=1), at_batch=6)
    run(tmp_path / "off", spiking(9), recorder, rulebook=off, spike=guard)
    assert recorder.faults == []

    wide = Rulebook()
    recorder = changing(
        wide, Rules(version=1, spike=Spike(z=1e12, min_history=3, history=8)), at_batch=6
    )
    run(tmp_path / "wide", spiking(9), recorder, rulebook=wide, spike=guard)
    assert recorder.faults == []


def test_errors_are_skipped_without_asking_once_the_policy_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainerd.actors.pipeline import Pipeline

    dispatch = Pipeline.dispatch

    def refusing(self: Any, loaded: Any, *args: Any, **options: Any) -> None:
        if loaded.batch in (2, 7):
            raise TypeError("cannot be placed")
        dispatch(self, loaded, *args, **options)

    monkeypatch.setattr(Pipeline, "dispatch", refusing)
    book = Rulebook()
    recorder = changing(book, Rules(version=1, continue_on_error=True), at_batch=4)
    run(tmp_path / "run", training.Data(LENGTH), recorder, rulebook=book)
    assert [f.batch for f in recorder.all("decide")] == [2]
    assert [(f.batch, f.delegated) for f in recorder.faults] == [(7, Verdict.SKIP)]
