"""When a run saves: by updates, by time, at an interval chosen from what saves cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainerd.actors.accounting import Account
from trainerd.actors.boundary import Boundary
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.ledger import Ledger
from trainerd.actors.plan import Plan
from trainerd.actors.reports import Controls, SaveRecord, StepRecord
from trainerd.actors.saver import Saver
from trainerd.actors.work import Position, Work

OWN, OTHER = Path("/own"), Path("/other")


class Store:
    """Takes what it is told to save, and answers as the test says."""

    def __init__(self) -> None:
        self.saves: list[tuple[int, tuple[str, ...], int]] = []
        self.wanted = False
        self.took: SaveRecord | None = None
        self.failure = None
        self.kept: set[int] = set()
        self.checks = 0

    def save(self, step: int, state: Any, meta: Any, ids: Any = (), *, every_steps: int) -> None:
        self.saves.append((step, ids, every_steps))

    def check_deadline(self) -> None:
        self.checks += 1

    def taken(self) -> SaveRecord | None:
        took, self.took = self.took, None
        return took

    def durable(self, step: int) -> Checkpoint | None:
        return Checkpoint(step=step, path=OWN / str(step)) if step in self.kept else None


class Rig:
    def __init__(self, *, origin: Path | None = None, crash_every_s: float = 0.0, **plan: Any):
        self.now_s, self.store = 0.0, Store()
        self.plan = Plan(**{"steps": 1000, "global_batch": 4, **plan})
        position = Position(step=7 if origin else 0, origin=origin)
        work = Work(
            state={},
            step=None,  # type: ignore[arg-type]
            supply=None,  # type: ignore[arg-type]
            slots=1,
            slot_examples=4,
            position=position,
            form=lambda state, step: state,
        )
        self.account = Account(self.plan, slot_examples=4, ledger=Ledger(), position=position)
        self.saver = Saver(
            self.store,  # type: ignore[arg-type]
            self.plan,
            Boundary(Controls()),
            work,
            directories=(OWN, OTHER),
            clock=lambda: self.now_s,
            crash_every_s=crash_every_s,
        )

    def run(self, steps: int, step_s: float = 1.0) -> list[int]:
        """Train so many steps; the steps that were saved."""
        first = self.account.step
        for step in range(first + 1, first + steps + 1):
            self.account.step = step
            self.now_s += step_s
            self.saver.stepped(_stepped(step, step_s))
            if self.saver.due(step):
                self.saver.save({}, self.account)
        return [step for step, _, _ in self.store.saves if step > first]


def _stepped(step: int, duration_s: float) -> StepRecord:
    return StepRecord(
        step=step,
        batch=step,
        applied=True,
        loss=1.0,
        gradient_norm=1.0,
        metrics={},
        duration_s=duration_s,
        data_wait_s=0.0,
        examples=4,
        masked_slots=(),
        total_skipped_batches=0,
        total_masked_slots=0,
    )


def test_it_saves_after_so_many_updates_and_says_so() -> None:
    rig = Rig(checkpoint_every_steps=5)
    assert rig.run(16) == [5, 10, 15]
    assert {every for _, _, every in rig.store.saves} == {5}


def test_it_saves_after_so_many_seconds() -> None:
    rig = Rig(checkpoint_every_steps=0, checkpoint_every_s=10.0)
    assert rig.run(9, step_s=4.0) == [3, 6, 9]
    assert {every for _, _, every in rig.store.saves} == {0}


def test_of_updates_and_seconds_what_comes_first_counts() -> None:
    rig = Rig(checkpoint_every_steps=5, checkpoint_every_s=3.0)
    assert rig.run(10) == [3, 5, 8, 10]


def test_nothing_is_due_before_something_was_trained_or_at_the_end() -> None:
    rig = Rig(steps=10, checkpoint_every_steps=5)
    assert not rig.saver.due(0)
    assert not rig.saver.due(10)


def test_a_save_that_failed_is_due_at_once() -> None:
    rig = Rig(checkpoint_every_steps=50)
    rig.store.wanted = True
    assert rig.run(1) == [1]
    assert rig.store.checks > 0


@pytest.mark.parametrize(
    ("origin", "due"), [(OWN / "7", False), (OTHER / "7", False), (Path("/elsewhere/7"), True)]
)
def test_a_state_from_elsewhere_is_saved_at_once(origin: Path, due: bool) -> None:
    assert Rig(origin=origin).saver.due(7) is due


def taken(blocked_s: float, duration_s: float) -> SaveRecord:
    return SaveRecord(step=1, path="", bytes=9, blocked_s=blocked_s, duration_s=duration_s)


def test_the_interval_follows_what_a_save_costs() -> None:
    rig = Rig(checkpoint_every_steps=0, checkpoint_auto=True)
    rig.run(20)
    # 1 % of the time, once five steps are measured; a save is expected to cost a millisecond.
    assert rig.store.saves[0] == (5, (), 1)
    rig.store.took = taken(0.1, 0.499)
    before = len(rig.store.saves)
    # On a host that computes the steps too the background counts: 0.6 s of 60 s.
    rig.run(120)
    assert [step for step, _, _ in rig.store.saves[before:]] == [80, 140]
    assert rig.store.saves[-1][2] == 60


def test_a_run_that_crashes_saves_more_often() -> None:
    steady, crashing = (
        Rig(checkpoint_every_steps=0, checkpoint_auto=True, crash_every_s=crash_every_s)
        for crash_every_s in (0.0, 200.0)
    )
    every = []
    for rig in (steady, crashing):
        rig.store.took = taken(0.5, 0.499)
        rig.run(200)
        every.append(rig.store.saves[-1][2])
    # The square root of twice the cost times the time between crashes, rounded up.
    assert every == [100, 20]


def test_the_interval_begins_anew_with_every_save() -> None:
    rig = Rig(checkpoint_every_steps=0, checkpoint_auto=True)
    rig.store.took = taken(0.05, 0.049)
    rig.run(8)
    rig.account.step = 9
    rig.saver.save({}, rig.account)
    assert not rig.saver.due(18)
    assert rig.saver.due(19)
