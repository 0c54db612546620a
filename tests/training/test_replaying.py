"""Replays: the fault of a run's past happens again at its batch, or it does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fakes import training
from fakes.checkpoints import WAIT_S, Stores, meta, save
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan
from trainerd.actors.program import Program
from trainerd.actors.program_loop import run_loop
from trainerd.actors.replaying import Past, Replay, beginnings, replay
from trainerd.actors.reports import Fault, FaultClass

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    for store in made.made:
        assert store.close(WAIT_S)


def plan(**changes: Any) -> Plan:
    return Plan(
        **{
            "steps": 12,
            "global_batch": 12,
            "microbatch": 3,
            "checkpoint_every_steps": 2,
            "checkpoint_keep": 9,
            **changes,
        }
    )


def run(program: Program, told: Plan, directory: Path) -> Fault:
    """Train until somebody is asked; return what about."""
    recorder = training.Recorder()
    run_loop(
        program,
        told,
        checkpoint_directory=directory,
        reporter=recorder,
        devices=jax.devices()[:1],
    )
    (fault,) = recorder.all("decide")
    return fault


def past(fault: Fault, checkpoint: Path | None = None, *entries: Entry) -> Past:
    return Past(
        fault_class=fault.fault_class,
        batch=fault.batch,
        left_out=entries,
        checkpoint=checkpoint,
    )


def again(program: Program, told: Plan, before: Past, *directories: Path) -> Replay:
    return replay(program, told, before, directories=directories, devices=jax.devices()[:1])


def skipped(first: int, last: int) -> Entry:
    return Entry(
        first_batch=first,
        last_batch=last,
        slots=None,
        fault_class=FaultClass.NON_FINITE_STEP,
        decision=Omission.SKIP,
    )


def asks(rule: str) -> dict[str, Any]:
    """Changes of a plan that ask about the first fault of a class."""
    whole = getattr(plan(), rule)
    return {rule: dataclasses.replace(whole, limit=0)}


@pytest.mark.parametrize(
    ("spoil", "rule", "fault_class"),
    [
        ("nan", "non_finite_microbatch", FaultClass.NON_FINITE_MICROBATCH),
        (ValueError("torn record"), "data_error", FaultClass.DATA_ERROR),
    ],
    ids=["nan", "data error"],
)
def test_a_fault_of_the_data_happens_again_from_the_kept_checkpoint(
    tmp_path: Path, spoil: Any, rule: str, fault_class: FaultClass
) -> None:
    program = training.program(data=training.Data(spoil={40: spoil}))
    told = plan(**asks(rule))
    fault = run(program, told, tmp_path)
    assert fault.fault_class is fault_class
    kept = tmp_path / "2"
    before = sorted(path.name for path in tmp_path.iterdir())
    showed = again(program, plan(), past(fault, kept), tmp_path)
    assert showed.happened
    assert showed.fault is not None
    assert (showed.fault.fault_class, showed.fault.batch) == (fault_class, fault.batch)
    assert (showed.source, showed.first_step) == (str(kept), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    healed = training.program()
    showed = again(healed, plan(), past(fault, kept), tmp_path)
    assert (showed.happened, showed.fault) == (False, None)
    assert showed.last_step >= fault.batch


def test_a_step_that_fails_at_run_time_does_so_again(tmp_path: Path) -> None:
    """The state is lost: nothing can be decided but to end."""

    def refuses(x: Any) -> Any:
        if np.isnan(x).any():
            raise KeyError("no such column")
        return np.float32(0)

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        asked = jax.pure_callback(refuses, jax.ShapeDtypeStruct((), "float32"), batch["y"])
        value, metrics = training.loss(params, batch, key)
        return value + jax.lax.stop_gradient(asked), metrics

    program = training.program(loss=loss, data=training.Data(spoil={40: "nan"}))
    fault = run(program, plan(), tmp_path)
    assert fault.fault_class is FaultClass.STEP_EXCEPTION
    showed = again(program, plan(), past(fault))
    assert (showed.happened, showed.source, showed.first_step) == (True, "init", 0)
    assert showed.fault is not None
    assert "no such column" in showed.fault.message


def test_callbacks_and_evaluation_are_left_out(tmp_path: Path) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("called")

    program = training.program(data=training.Data(spoil={40: "nan"}))
    fault = run(program, plan(**asks("non_finite_microbatch")), tmp_path)
    noisy = dataclasses.replace(program, evaluate=never)
    assert again(noisy, plan(), past(fault), tmp_path).happened


def test_a_fault_before_the_batch_ends_it_and_is_told(tmp_path: Path) -> None:
    program = training.program(data=training.Data(spoil={40: "nan"}))
    told = plan(**asks("non_finite_microbatch"))
    fault = run(program, told, tmp_path)
    later = dataclasses.replace(fault, batch=fault.batch + 20)
    showed = again(program, told, past(later), tmp_path)
    assert not showed.happened
    assert showed.fault is not None
    assert showed.fault.batch == fault.batch
    # What the run left out before is left out again: it does not happen.
    showed = again(program, told, past(later, None, skipped(fault.batch, fault.batch)), tmp_path)
    assert not showed.happened or showed.fault is not None
    assert showed.fault is None or showed.fault.batch != fault.batch


def test_a_replay_that_cannot_begin_says_why(tmp_path: Path) -> None:
    def broken(key: jax.Array) -> Any:
        raise RuntimeError("no parameters")

    before = Past(fault_class=FaultClass.STEP_EXCEPTION, batch=3, left_out=(), checkpoint=None)
    showed = again(training.program(init=broken), plan(), before, tmp_path)
    assert not showed.happened
    assert showed.fault is not None
    assert "no parameters" in showed.fault.message


def test_it_begins_with_what_the_run_could_have_begun_with_then(
    stores: Stores, tmp_path: Path
) -> None:
    """The kept one first; then the newest before the batch that is of the same past."""
    store = stores(tmp_path / "own", keep=9)
    entries = {10: (), 20: (), 30: (skipped(11, 15),), 40: ()}
    for step, left_out in entries.items():
        save(store, step, entries=left_out)
    shutil_pin = tmp_path / "pins" / "r-1" / "20"
    other = stores(shutil_pin.parent)
    save(other, 20)
    mask = meta(0).ledger

    def begins(batch: int, *left_out: Entry, checkpoint: Path | None = None) -> list[str]:
        before = Past(
            fault_class=FaultClass.LOSS_SPIKE,
            batch=batch,
            left_out=(*mask, *left_out),
            checkpoint=checkpoint,
        )
        return [
            str(found.path.relative_to(tmp_path))
            for found in beginnings(before, [tmp_path / "own", tmp_path / "gone"])
        ]

    assert begins(35) == ["own/20", "own/10"]
    assert begins(35, skipped(11, 15)) == ["own/30", "own/10"]
    assert begins(99, checkpoint=shutil_pin) == ["pins/r-1/20", "own/40", "own/20", "own/10"]
    assert begins(5) == []
    assert begins(35, checkpoint=tmp_path / "gone" / "20") == ["own/20", "own/10"]
