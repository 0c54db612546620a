"""Which checkpoints stay, where a rollback goes, and which are no longer of the run's past."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_past import superseded, trained_on
from trainerd.actors.checkpoint_retention import Retention, kept, rollback_order
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.reports import FaultClass


def skipped(first: int, last: int) -> Entry:
    return Entry(
        first_batch=first,
        last_batch=last,
        slots=None,
        fault_class=FaultClass.NON_FINITE_STEP,
        decision=Omission.SKIP,
    )


def masked(first: int, last: int, *slots: int) -> Entry:
    return Entry(
        first_batch=first,
        last_batch=last,
        slots=slots,
        fault_class=FaultClass.NON_FINITE_MICROBATCH,
        decision=Omission.MASK,
    )


def meta(cursor: int, *ledger: Entry) -> CheckpointMeta:
    return CheckpointMeta(
        run_id="r",
        batch=cursor,
        slots=4,
        global_batch=12,
        seed=0,
        loss=1.0,
        masked_slots=0,
        skipped_batches=0,
        ledger=ledger,
    )


@pytest.mark.parametrize(
    ("steps", "keep", "rollback_steps", "stay"),
    [
        ([1, 2, 3, 10], 2, 0, {10, 3}),
        ([50, 100, 150, 200], 3, 20, {100, 150, 200}),
        ([50, 100], 1, 20, {50, 100}),
        ([5, 10, 15, 20, 25], 2, 20, {5, 10, 20, 25}),
        ([5, 10], 1, 20, {5, 10}),
        ([5, 10, 15], 1, 20, {5, 15}),
        ([], 3, 20, set()),
    ],
    ids=["no rollbacks", "within the newest", "one more", "two more", "none as old", "oldest", "-"],
)
def test_beside_the_newest_what_a_rollback_needs_stays(
    steps: list[int], keep: int, rollback_steps: int, stay: set[int]
) -> None:
    assert kept(steps, keep=keep, rollback_steps=rollback_steps) == stay


@given(
    every=st.integers(1, 40),
    keep=st.integers(1, 5),
    rollback_steps=st.integers(1, 60),
    saves=st.integers(1, 80),
)
def test_a_rollback_never_has_to_go_far_and_few_are_kept(
    every: int, keep: int, rollback_steps: int, saves: int
) -> None:
    """As a run goes on: the target moves on with it, which one extra checkpoint cannot do."""
    there: set[int] = set()
    for number in range(1, saves + 1):
        newest = number * every
        there.add(newest)
        there = set(kept(there, keep=keep, rollback_steps=rollback_steps))
        assert len(there) <= keep + 2
        old_enough = [step for step in there if step <= newest - rollback_steps]
        if newest - every >= rollback_steps:
            assert old_enough
            assert newest - max(old_enough) < 2 * rollback_steps + 2 * every
        else:
            assert every in there


def scores(*values: float | None) -> dict[int, float | None]:
    """Steps 10, 20, 30 … with these values."""
    return {10 * number: value for number, value in enumerate(values, start=1)}


NAN = float("nan")


@pytest.mark.parametrize(
    ("rules", "values", "stay"),
    [
        (Retention(keep=1), (1.0,) * 5, {50}),
        (Retention(keep=1, every_steps=20), (1.0,) * 5, {20, 40, 50}),
        (Retention(keep=1, best=1), (3.0, 1.0, 2.0, 4.0), {20, 40}),
        (Retention(keep=1, best=2), (3.0, 1.0, 2.0, 4.0), {20, 30, 40}),
        (Retention(keep=1, best=1, highest=True), (3.0, 5.0, 2.0, 4.0), {20, 40}),
        (Retention(keep=1, best=2), (3.0, 1.0, 1.0, 4.0), {10, 20, 40}),
        (Retention(keep=1, best=1), (None, NAN, 9.0, None), {30, 40}),
        (Retention(keep=1, best=3), (None, None, None), {30}),
        (Retention(keep=2, every_steps=30, best=1), (0.5, 1, 2, 3, 4, 5, 6), {10, 30, 60, 70}),
        (Retention(keep=1, best=1, rollback_steps=20), (5, 4, 1, 3, 2.0), {30, 40, 50}),
        (Retention(keep=3, every_steps=7, best=9), (), set()),
    ],
)
def test_rules_are_combined_and_what_one_of_them_wants_stays(
    rules: Retention, values: tuple[float | None, ...], stay: set[int]
) -> None:
    assert rules.kept(scores(*values)) == stay


@given(
    values=st.lists(st.none() | st.floats(), max_size=12),
    keep=st.integers(1, 4),
    every=st.integers(0, 30),
    best=st.integers(0, 4),
)
def test_the_newest_always_stays_and_what_stays_stays(
    values: list[float | None], keep: int, every: int, best: int
) -> None:
    rules = Retention(keep=keep, every_steps=every, best=best)
    there = scores(*values)
    stay = rules.kept(there)
    assert set(sorted(there)[-keep:]) <= stay
    assert rules.kept({step: there[step] for step in stay}) == stay


def test_x5_the_best_is_chosen_among_durable_checkpoints_alone() -> None:
    """A better value of a state whose save failed does not cost the best that is on disk."""
    rules = Retention(keep=1, best=1)
    assert rules.kept({10: 1.0, 30: 3.0}) == {10, 30}


def test_a_rollback_tries_the_newest_old_enough_then_the_oldest_of_the_others() -> None:
    found = [Checkpoint(step=step, path=Path(str(step))) for step in (10, 30, 40, 20)]
    order = [checkpoint.step for checkpoint in rollback_order(found, 25)]
    assert order == [20, 10, 30, 40]
    assert [checkpoint.step for checkpoint in rollback_order(found, 5)] == [10, 20, 30, 40]
    twice = [Checkpoint(step=10, path=Path(name)) for name in ("own", "other")]
    for at_most_step in (5, 25):
        assert rollback_order(twice, at_most_step)[0].path.name == "own"


@pytest.mark.parametrize(
    ("checkpoint", "left_out", "batch"),
    [
        (meta(10), [skipped(9, 12)], 9),
        (meta(9), [skipped(9, 12)], None),
        (meta(10, skipped(9, 9)), [skipped(9, 12)], None),
        (meta(11, skipped(9, 9)), [skipped(9, 12)], 10),
        (meta(40, skipped(0, 1_000_000_000)), [skipped(2, 1_000_000_000)], None),
        (meta(10, masked(9, 9, 1)), [skipped(9, 9)], 9),
        (meta(10, masked(9, 9, 1, 2)), [masked(9, 9, 1)], None),
        (meta(10, masked(9, 9, 1)), [masked(9, 9, 1, 3)], 9),
        (meta(10, skipped(9, 9)), [masked(9, 9, 1)], None),
        (meta(20), [skipped(15, 15), masked(4, 6, 0)], 4),
        (meta(0), [skipped(0, 5)], None),
        (meta(10, skipped(3, 3)), [], None),
    ],
)
def test_a_checkpoint_that_was_trained_on_what_is_left_out_by_now_is_superseded(
    checkpoint: CheckpointMeta, left_out: list[Entry], batch: int | None
) -> None:
    assert trained_on(checkpoint, left_out) == batch
    assert superseded(checkpoint, left_out) is (batch is not None)
