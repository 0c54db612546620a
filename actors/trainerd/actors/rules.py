"""What a run does about faults without asking: numbers that may change while it trains."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainerd.actors.errors import PlanError
from trainerd.actors.reports import Verdict
from trainerd.actors.spikes import Spike


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is done about a fault without asking, and how often before somebody is asked.

    `limit`: more than so many within `window_s` seconds are not dealt with alone. `consecutive`:
    nor is the n-th in a row; 0: no such rule. An `action` other than MASK and SKIP always asks.
    """

    action: Verdict
    limit: int
    window_s: float
    consecutive: int = 0

    def __post_init__(self) -> None:
        if self.limit < 0 or self.consecutive < 0 or not self.window_s > 0:
            raise PlanError(
                f"a rule needs limit ≥ 0, consecutive ≥ 0 and window_s > 0, got {self.limit}, "
                f"{self.consecutive} and {self.window_s}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One version of a run's rules; see `Plan`, which says what it begins with."""

    version: int = 0
    continue_on_error: bool = False
    spike: Spike | None = None
    non_finite_microbatch: Rule = field(
        default_factory=lambda: Rule(action=Verdict.MASK, limit=8, window_s=600.0)
    )
    non_finite_step: Rule = field(
        default_factory=lambda: Rule(action=Verdict.SKIP, limit=10, window_s=600.0, consecutive=3)
    )
    loss_spike: Rule = field(
        default_factory=lambda: Rule(action=Verdict.SKIP, limit=5, window_s=600.0)
    )
    data_error: Rule = field(
        default_factory=lambda: Rule(action=Verdict.SKIP, limit=10, window_s=600.0)
    )
    step_exception: Rule = field(
        default_factory=lambda: Rule(action=Verdict.SKIP, limit=10, window_s=600.0)
    )


class Rulebook:
    """The newest rules asked for. Written from one thread, looked at by the loop at each step.

    `newest` None: none were asked for since those of `version`. Nothing is ever taken out of it, so
    that no change between two looks is lost, and looking costs a step next to nothing.
    """

    def __init__(self, *, version: int = 0) -> None:
        self._version = version
        self.newest: Rules | None = None

    def change(self, rules: Rules) -> None:
        """Train by `rules` from the next step on; a version that is not newer changes nothing."""
        if rules.version > self._version:
            self._version, self.newest = rules.version, rules
