"""When snapshots are due: as often as they have cost so far allows, and never by surprise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from trainerd.actors.accounting import Account
from trainerd.actors.ledger import Ledger
from trainerd.actors.plan import Plan
from trainerd.actors.reports import StepRecord
from trainerd.actors.snapshots import Taken
from trainerd.actors.snapshotting import Snapshots
from trainerd.actors.state import TrainState
from trainerd.actors.work import Position, Work

ABSTRACT = TrainState(
    params={"w": jax.ShapeDtypeStruct((50_000,), jnp.float32)},
    opt_state=(),
    step=jax.ShapeDtypeStruct((), jnp.int32),
    rng=jax.ShapeDtypeStruct((2,), jnp.uint32),
)


class FakeStore:
    """Takes snapshots at once, at a cost that the test names."""

    def __init__(self) -> None:
        self.wanted, self.room, self.cost_s = True, False, 0.01
        self.held: list[int] = []
        self._news: Taken | None = None

    @property
    def newest_step(self) -> int:
        return max(self.held, default=-1)

    def prepare(self, abstract: TrainState) -> None:
        self.room = True

    def ready(self) -> bool:
        return self.wanted and self.room

    def take(self, state, step, meta) -> None:
        assert meta.batch == step
        self.held.append(step)
        self._news = Taken(step=step, blocking_s=self.cost_s, background_s=0.0)

    def taken(self) -> Taken | None:
        news, self._news = self._news, None
        return news

    def discard_after(self, step: int) -> None:
        self.held = [x for x in self.held if x <= step]


class Bench:
    """A loop's steps, each of 0.1 s."""

    def __init__(self, *, steps: int = 1000, begun_at: int = 0, crash_every_s: float = 0.0) -> None:
        plan = Plan(steps=steps, global_batch=4)
        position = Position(step=begun_at, cursor=begun_at)
        work = Work(
            state=None,
            step=None,
            supply=None,
            slots=1,
            slot_examples=4,
            position=position,
            form=lambda state, step: state,
        )
        self.account = Account(plan, slot_examples=4, ledger=Ledger(), position=position)
        self.store = FakeStore()
        self.told: list[tuple[int, int]] = []
        self.snapshots = Snapshots(
            self.store,
            plan,
            work,
            ABSTRACT,
            crash_every_s=crash_every_s,
            told=lambda *what: self.told.append(what),
        )

    def run(self, steps: int, *, applied: bool = True) -> None:
        for _ in range(steps):
            self.account.step += applied
            self.account.cursor = self.account.step
            self.snapshots.stepped(record(self.account.step, applied=applied))
            if self.snapshots.due(self.account.step):
                self.snapshots.take(None, self.account)


def record(step: int, *, applied: bool) -> StepRecord:
    return StepRecord(
        step=step,
        batch=step,
        applied=applied,
        loss=1.0,
        gradient_norm=1.0,
        metrics={},
        duration_s=0.1,
        data_wait_s=0.0,
        examples=4,
        masked_slots=(),
        total_skipped_batches=0,
        total_masked_slots=0,
    )


def test_the_first_applied_step_is_taken_at_once() -> None:
    bench = Bench()
    bench.run(3, applied=False)
    assert not bench.store.room
    bench.run(1)
    assert bench.store.held == [1]


def test_the_next_ones_are_due_as_the_first_one_s_cost_allows() -> None:
    bench = Bench()
    bench.run(99)
    first, second, third = bench.store.held[:3]
    # 0.01 s and what rest costs, of 0.1 s a step: every 11 steps are 1 %.
    assert (second - first, third - second) == (11, 11)
    assert bench.told[-1] == (bench.store.held[-1], 11)


def test_a_costlier_snapshot_is_taken_less_often() -> None:
    bench = Bench()
    bench.store.cost_s = 0.05
    bench.run(200)
    assert bench.store.held[2] - bench.store.held[1] == 51


def test_a_run_that_crashes_takes_more() -> None:
    bench = Bench(crash_every_s=15.0)
    bench.run(100)
    # √(2 · 0.0102 · 15) s are 5.6 steps.
    assert bench.store.held[2] - bench.store.held[1] == 6


def test_a_restored_run_counts_from_where_it_stands() -> None:
    bench = Bench(begun_at=500)
    bench.run(30)
    assert bench.store.held[:2] == [501, 512]


def test_steps_that_are_skipped_are_no_reason_for_one() -> None:
    bench = Bench()
    bench.run(20)
    taken = len(bench.store.held)
    bench.run(50, applied=False)
    assert len(bench.store.held) == taken


def test_the_last_state_is_not_taken() -> None:
    bench = Bench(steps=12)
    bench.run(12)
    assert bench.store.held == [1]


def test_one_that_is_being_written_is_waited_for() -> None:
    bench = Bench()
    bench.run(6)
    bench.store.room = False
    bench.run(20)
    assert len(bench.store.held) == 1
    bench.store.room = True
    bench.run(1)
    assert len(bench.store.held) == 2


def test_going_back_forgets_what_is_newer_and_goes_on_from_there() -> None:
    bench = Bench()
    bench.run(40)
    bench.account.step = 20
    bench.snapshots.went_back(20)
    assert max(bench.store.held) <= 20
    assert bench.told[-1] == (bench.store.newest_step, 11)
    bench.run(12)
    assert bench.store.held[-1] == 31


def test_where_there_can_be_none_that_is_told_once() -> None:
    bench = Bench()
    bench.run(30)
    bench.store.wanted = False
    bench.store.held.clear()
    bench.run(30)
    assert bench.store.held == []
    assert bench.told[-1] == (-1, 0)
    assert bench.told.count((-1, 0)) == 2  # as it began, and now


@pytest.mark.parametrize("cost_s", [0.0, 1e-5])
def test_snapshots_that_cost_nothing_still_cost_the_rest_they_need(cost_s: float) -> None:
    bench = Bench()
    bench.store.cost_s = cost_s
    bench.run(30)
    assert bench.told[-1][1] == 1
