"""A run is not over before its last state is durable: it holds, and is asked about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fakes import training
from trainerd.actors.accounting import Account
from trainerd.actors.boundary import Boundary
from trainerd.actors.holding import Holding, Saved
from trainerd.actors.ledger import Ledger
from trainerd.actors.plan import Plan
from trainerd.actors.reports import (
    Controls,
    Fault,
    FaultClass,
    FinishReason,
    Phase,
    Verdict,
)
from trainerd.actors.stage import Stage
from trainerd.actors.work import Position

STEP = 9
FAILURE = Fault(
    fault_class=FaultClass.CHECKPOINT_SAVE_FAILED,
    message="no space left",
    suggestion="free some",
    reason="no_space",
)


class Rig:
    """`in_time`: what each save that is waited for comes to; `mends_s`: when one is durable."""

    def __init__(self, *in_time: bool, mends_s: float = 1e9, hold_s: float = 600.0) -> None:
        self.now_s = 0.0
        self.in_time, self.mends_s = list(in_time), mends_s
        self.saves: list[float] = []
        self.failure, self.wanted = FAILURE, False
        self.controls = Controls()
        self.meanwhile: Callable[[float], None] = lambda now_s: None
        self.recorder = training.Recorder(verdict=self.decided)
        plan = Plan(steps=STEP, global_batch=4, final_save_hold_s=hold_s)
        self.account = Account(plan, slot_examples=4, ledger=Ledger(), position=Position(step=STEP))
        boundary = Boundary(self.controls)
        boundary.wait_while_paused = self.wait  # type: ignore[method-assign]
        self.holding = Holding(
            plan,
            saver=self,  # type: ignore[arg-type]
            boundary=boundary,
            reporter=self.recorder,
            stage=Stage(self.recorder),
            clock=lambda: self.now_s,
        )
        self.verdict = Verdict.CONTINUE

    def decided(self, fault: Fault) -> Verdict:
        if fault.phase is not Phase.PAUSED and self.verdict is Verdict.CONTINUE:
            self.controls.pause()
        return self.verdict

    def wait(self, timeout_s: float) -> bool:
        self.now_s += timeout_s
        self.meanwhile(self.now_s)
        return False

    def save_durably(self, state: Any, account: Account) -> bool:
        return self.in_time.pop(0)

    def save(self, state: Any, account: Account) -> None:
        self.saves.append(self.now_s)

    def durable(self, step: int) -> bool:
        return self.now_s >= self.mends_s

    def run(self) -> Saved:
        return self.holding.save_last({}, self.account)

    @property
    def asked(self) -> list[Phase]:
        return [fault.phase for fault in self.recorder.all("decide")]


def test_a_last_state_that_is_durable_in_time_is_asked_about_by_nobody() -> None:
    rig = Rig(True)
    assert rig.run() == Saved(durable=True)
    assert rig.asked == []


def test_without_a_hold_nobody_is_asked() -> None:
    rig = Rig(False, hold_s=0.0)
    assert rig.run() == Saved(durable=False)
    assert rig.asked == []


def test_it_holds_and_tries_again_until_it_is_durable() -> None:
    rig = Rig(False, mends_s=200.0)
    assert rig.run() == Saved(durable=True)
    assert rig.saves == [60.5, 120.5, 180.5]
    (fault,) = rig.recorder.all("decide")
    assert (fault.phase, fault.reason, fault.suggestion) == (Phase.SAVE, "no_space", "free some")
    assert "of step 9, is not durable after 120 s: no space left" in fault.message
    assert rig.recorder.phases == [Phase.SAVE, Phase.PAUSED]
    assert rig.recorder.all("paused") == [STEP]


def test_resumed_it_is_tried_at_once_and_holds_again_where_that_fails() -> None:
    rig = Rig(False, False, True)

    def resume(now_s: float) -> None:
        if now_s in (10.0, 20.0):
            rig.controls.resume()

    rig.meanwhile = resume
    assert rig.run() == Saved(durable=True)
    assert rig.now_s == 20.0
    assert rig.asked == [Phase.SAVE, Phase.SAVE]
    assert rig.recorder.all("resumed") == [STEP, STEP]


def test_after_the_hold_it_is_asked_about_once_more_and_ends() -> None:
    rig = Rig(False, hold_s=300.0)
    assert rig.run() == Saved(durable=False, reason=FinishReason.DECIDED)
    assert rig.asked == [Phase.SAVE, Phase.PAUSED]
    assert rig.now_s == 300.0


def test_to_be_resumed_again_and_again_does_not_prolong_the_hold() -> None:
    rig = Rig(*[False] * 1000, hold_s=300.0)
    rig.meanwhile = lambda now_s: rig.controls.resume()
    assert rig.run() == Saved(durable=False, reason=FinishReason.DECIDED)
    assert rig.now_s == 300.0


def test_told_to_fail_it_does_not_hold() -> None:
    rig = Rig(False)
    rig.verdict = Verdict.FAIL
    assert rig.run() == Saved(durable=False, reason=FinishReason.DECIDED)
    assert rig.recorder.all("paused") == []


def test_without_an_answer_it_holds_all_the_same_and_asks_again() -> None:
    rig = Rig(*[False] * 1000, hold_s=30.0)
    rig.verdict = Verdict.RESTART
    assert rig.run() == Saved(durable=False, reason=FinishReason.DECIDED)
    assert rig.asked[-1] is Phase.PAUSED
    assert set(rig.asked[:-1]) == {Phase.SAVE}


@pytest.mark.parametrize("reason", [FinishReason.STOPPED, FinishReason.PREEMPTED])
def test_a_stop_ends_the_hold_and_is_why_the_run_ends(reason: FinishReason) -> None:
    rig = Rig(False)
    rig.meanwhile = lambda now_s: rig.controls.stop(reason)
    assert rig.run() == Saved(durable=False, reason=reason)


def test_a_pause_makes_up_for_a_save_that_failed() -> None:
    rig = Rig(False)
    rig.controls.pause()

    def next_moment(now_s: float) -> None:
        rig.wanted = now_s == 2.0
        if now_s >= 4.0:
            rig.controls.resume()

    rig.meanwhile = next_moment
    assert rig.holding.pause({}, rig.account).stop is None
    assert rig.saves == [2.0]
    assert rig.recorder.all("paused") == rig.recorder.all("resumed") == [STEP]
