"""Saves that training waits for: before a pause, and at the end.

A run is not over before its last state is durable, or given up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from trainerd.actors.accounting import Account
from trainerd.actors.boundary import Boundary, Wishes
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.company import Alone, Company
from trainerd.actors.plan import Plan
from trainerd.actors.reports import (
    Fault,
    FaultClass,
    FinishReason,
    Phase,
    Reporter,
    Verdict,
)
from trainerd.actors.saver import Saving
from trainerd.actors.stage import Stage
from trainerd.actors.state import PyTree

_SLICE_S = 0.5
_LINGER_S = 0.05
_AGAIN_S = 60.0
"""How often a run that holds tries to save."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """How a save that was waited for ended. `reason`: why the run ends now, if that has changed
    meanwhile. `newest`: the newest durable checkpoint, where another process has saved."""

    durable: bool
    reason: FinishReason | None = None
    newest: Checkpoint | None = None


class Holds(Protocol):
    """How a loop waits for saves: `Holding`, or `Following` where another process saves."""

    def pause(self, state: PyTree, account: Account, /) -> Wishes:
        """Hold after a durable save, until told otherwise; return what ended it."""

    def save(self, state: PyTree, account: Account, /) -> Saved:
        """Save a state that may be gone on from, and wait."""

    def save_last(self, state: PyTree, account: Account, /) -> Saved:
        """Save the last state and wait until that is durable, or given up."""


class Holding:
    """Pauses a run, and makes its last state durable. Owned by the loop; nothing is in flight.

    Where that state is not durable within the plan's `final_save_timeout_s`, the reporter is asked.
    Unless the answer is to fail, the run holds, tries now and then, and at once when it is resumed;
    it is asked again, in phase *paused*, when `final_save_hold_s` have passed in vain.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        saver: Saving,
        boundary: Boundary,
        reporter: Reporter,
        stage: Stage,
        clock: Callable[[], float],
        company: Company | None = None,
    ) -> None:
        """`company`: those who wait for this process's saves."""
        self._plan, self._saver, self._boundary = plan, saver, boundary
        self._reporter, self._stage, self._clock = reporter, stage, clock
        self._company = company or Alone()

    def pause(self, state: PyTree, account: Account) -> Wishes:
        """Hold after a durable save, until told otherwise; return what ended it.

        A save that has failed is made up for as soon as its back-off allows.
        """
        self._company.pauses()
        self._durably(state, account)
        step = account.step
        self._stage.enter(Phase.PAUSED, step)
        self._reporter.paused(step)
        self._company.minute("paused")
        while True:
            if self._boundary.wait_while_paused(_SLICE_S) and not self._company.alone:
                # Another member may still be told to hold, which nothing here waits for.
                time.sleep(_LINGER_S)
            asked = self._boundary.asked().also(self._company.asked(pausing=True))
            if asked.save or self._saver.wanted:
                self._saver.save(state, account)
            if asked.stop is not None:
                self._company.minute("pause_over", stop=asked.stop.value, saves=asked.stop_saves)
                return asked
            if not asked.pause:
                self._company.minute("pause_over", stop="", saves=True)
                self._reporter.resumed(step)
                return Wishes()

    def save(self, state: PyTree, account: Account) -> Saved:
        """Save and wait for as long as the plan says."""
        return self._said(Saved(durable=self._durably(state, account)))

    def save_last(self, state: PyTree, account: Account) -> Saved:
        """Save `state` and wait until that is durable, or until it is to be waited for no more."""
        return self._said(self._saved_last(state, account))

    def _durably(self, state: PyTree, account: Account) -> bool:
        self._stage.enter(Phase.SAVE, account.step)
        return self._saver.save_durably(state, account)

    def _said(self, saved: Saved) -> Saved:
        """Tell those who wait."""
        if not self._company.alone:
            newest = self._saver.settled()
            self._company.minute(
                "ended",
                reason=saved.reason.value if saved.reason else "",
                durable=saved.durable,
                step=newest.step if newest else -1,
                path=str(newest.path) if newest else "",
            )
        return saved

    def _saved_last(self, state: PyTree, account: Account) -> Saved:
        until_s: float | None = None
        while True:
            if self._durably(state, account):
                return Saved(durable=True)
            if not self._plan.final_save_hold_s:
                return Saved(durable=False)
            if self._reporter.decide(self._fault(account.step)).verdict is Verdict.FAIL:
                return Saved(durable=False, reason=FinishReason.DECIDED)
            until_s = until_s or self._clock() + self._plan.final_save_hold_s
            ended = self._hold(state, account, until_s)
            if ended is not None:
                return ended

    def _hold(self, state: PyTree, account: Account, until_s: float) -> Saved | None:
        """Hold until something ends that; None: it was resumed."""
        step = account.step
        self._stage.enter(Phase.PAUSED, step)
        self._company.minute("holding")
        self._reporter.paused(step)
        again_s = self._clock() + _AGAIN_S
        while (now_s := self._clock()) < until_s:
            self._boundary.wait_while_paused(_SLICE_S)
            if self._saver.durable(step):
                return Saved(durable=True)
            asked = self._boundary.asked().also(self._company.asked())
            if asked.stop is not None:
                return Saved(durable=False, reason=asked.stop)
            if not asked.pause:
                self._company.minute("resumed")
                self._reporter.resumed(step)
                return None
            if asked.save or now_s >= again_s:
                again_s = now_s + _AGAIN_S
                self._saver.save(state, account)
        fault = replace(self._fault(step), phase=Phase.PAUSED)
        self._reporter.decide(fault)
        return Saved(durable=False, reason=FinishReason.DECIDED)

    def _fault(self, step: int) -> Fault:
        failure = self._saver.failure
        why = f": {failure.message}" if failure else ""
        return Fault(
            fault_class=FaultClass.CHECKPOINT_SAVE_FAILED,
            message=f"the last state, of step {step}, is not durable after "
            f"{self._plan.final_save_timeout_s:g} s{why}",
            suggestion=failure.suggestion if failure else "",
            step=step,
            phase=Phase.SAVE,
            reason=failure.reason if failure else "timeout",
            error_type=failure.error_type if failure else "",
        )
