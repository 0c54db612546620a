"""Pauses and ends, as those members of a gang go through them that do not save."""

from __future__ import annotations

import math
from pathlib import Path

from trainerd.actors.accounting import Account
from trainerd.actors.boundary import Boundary, Wishes
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.company import Company, Minute
from trainerd.actors.holding import Saved
from trainerd.actors.plan import Plan
from trainerd.actors.reports import FinishReason, Phase
from trainerd.actors.stage import Stage
from trainerd.actors.state import PyTree

_MARGIN_S = 60.0
"""How much later than the first member this one gives up."""


class Following:
    """Does what the first member says. Implements `holding.Holds`; nothing is in flight."""

    def __init__(self, plan: Plan, *, company: Company, boundary: Boundary, stage: Stage) -> None:
        self._company, self._boundary, self._stage = company, boundary, stage
        # The first member gives its save so long, and sees one that is in flight then through.
        self._save_s = 2 * plan.final_save_timeout_s + _MARGIN_S

    def pause(self, _state: PyTree, account: Account) -> Wishes:
        """Hold until the first member says what ends it."""
        self._stage.enter(Phase.SAVE, account.step)
        self._company.pauses()
        self._next("paused", limit_s=self._save_s)
        self._stage.enter(Phase.PAUSED, account.step)
        # As long as the others: whoever ends the pause ends this process too.
        told = self._next("pause_over", limit_s=math.inf)
        if not told["stop"]:
            return Wishes()
        return Wishes(stop=FinishReason(told["stop"]), stop_saves=bool(told["saves"]))

    def save(self, _state: PyTree, account: Account) -> Saved:
        """Wait until the first member has made the state durable, or has given that up."""
        return self._ended(account)

    def save_last(self, _state: PyTree, account: Account) -> Saved:
        """The same, however long that member holds."""
        return self._ended(account)

    def _ended(self, account: Account) -> Saved:
        self._stage.enter(Phase.SAVE, account.step)
        limit_s = self._save_s
        while True:
            told = self._next("ended", "holding", "resumed", limit_s=limit_s)
            match told["kind"]:
                case "holding":
                    self._stage.enter(Phase.PAUSED, account.step)
                    limit_s = math.inf
                case "resumed":
                    self._stage.enter(Phase.SAVE, account.step)
                    limit_s = self._save_s
                case _:
                    reason = FinishReason(told["reason"]) if told["reason"] else None
                    newest = None
                    if told["path"]:
                        newest = Checkpoint(step=int(told["step"]), path=Path(told["path"]))
                    return Saved(durable=bool(told["durable"]), reason=reason, newest=newest)

    def _next(self, *kinds: str, limit_s: float) -> Minute:
        return self._company.next_minute(*kinds, limit_s=limit_s, boundary=self._boundary)
