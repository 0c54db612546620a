"""Those members of a gang that do not save wait for the one that does, and not for ever."""

from __future__ import annotations

import math
from typing import Any

from fakes import training
from trainerd.actors.accounting import Account
from trainerd.actors.boundary import Boundary
from trainerd.actors.following import Following
from trainerd.actors.ledger import Ledger
from trainerd.actors.plan import Plan
from trainerd.actors.reports import Controls
from trainerd.actors.stage import Stage
from trainerd.actors.work import Position

PLAN = Plan(steps=9, global_batch=4, final_save_timeout_s=120.0)
ENDED = {"kind": "ended", "reason": "", "durable": False, "step": -1, "path": ""}


class First:
    """What the first member says, and how long each of its words is waited for."""

    def __init__(self, *minutes: dict[str, Any]) -> None:
        self.minutes = list(minutes)
        self.limits_s: list[float] = []

    def next_minute(self, *_kinds: str, limit_s: float, **_more: object) -> dict[str, Any]:
        self.limits_s.append(limit_s)
        return self.minutes.pop(0)

    def following(self) -> Following:
        return Following(
            PLAN,
            company=self,  # type: ignore[arg-type]
            boundary=Boundary(Controls()),
            stage=Stage(training.Recorder()),
        )


def account() -> Account:
    return Account(PLAN, slot_examples=4, ledger=Ledger(), position=Position(step=9))


def test_a_save_that_is_given_up_and_seen_through_is_waited_for_to_its_end() -> None:
    first = First(ENDED)
    saved = first.following().save(None, account())
    assert (saved.durable, saved.newest) == (False, None)
    # The first member tries for so long, and then sees a save in flight through, for as long.
    assert 2 * PLAN.final_save_timeout_s < first.limits_s[0] < math.inf


def test_while_the_first_holds_the_others_hold_and_have_no_deadline() -> None:
    first = First({"kind": "holding"}, {"kind": "resumed"}, ENDED)
    first.following().save_last(None, account())
    assert first.limits_s == [first.limits_s[0], math.inf, first.limits_s[0]]
