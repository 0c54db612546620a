"""Which checkpoints are kept, and which one a rollback goes to: rules over steps alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainerd.actors.checkpoint_files import Checkpoint

LOSS = "loss"
"""The metric that every checkpoint has: the loss of its newest applied update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which durable checkpoints stay: any that one of the rules wants.

    The newest `keep`; every one whose step is a multiple of `every_steps` (0: no such rule); the
    `best` ones by `metric`, the lowest or, with `highest`, the highest. `rollback_steps`: beside
    them, what a rollback by so many steps needs (0: none is ever made).
    """

    keep: int = 3
    every_steps: int = 0
    best: int = 0
    metric: str = LOSS
    highest: bool = False
    rollback_steps: int = 0

    def kept(self, scores: Mapping[int, float | None]) -> frozenset[int]:
        """Of durable checkpoints, as their steps with the value of the metric, those that stay.

        None, and what is not a number, is no value: the best are chosen among the others. Of equal
        ones only the oldest counts: the rest were not measured since. The newest always stays.
        """
        stay = set(kept(scores, keep=self.keep, rollback_steps=self.rollback_steps))
        if self.every_steps:
            stay.update(step for step in scores if step > 0 and step % self.every_steps == 0)
        sign = -1.0 if self.highest else 1.0
        best: dict[float, int] = {}
        for step, score in sorted(scores.items()):
            if score is not None and not math.isnan(score):
                best.setdefault(sign * score, step)
        stay.update(best[score] for score in sorted(best)[: self.best])
        return frozenset(stay)


def kept(steps: Iterable[int], *, keep: int, rollback_steps: int) -> frozenset[int]:
    """Of the steps of durable checkpoints, those that stay: the newest `keep`, and two at most.

    `rollback_steps` > 0: beside them the newest one that is at least so many steps older than the
    newest of all, where a rollback goes; and the oldest one after it, which takes its place once it
    is as old. So a rollback never has to go much further back than twice `rollback_steps`. Before
    any is as old, the oldest there is stays.
    """
    ordered = sorted(steps, reverse=True)
    stay = set(ordered[:keep])
    if ordered and rollback_steps > 0:
        target = next((step for step in ordered if step <= ordered[0] - rollback_steps), -1)
        later = [step for step in ordered if step > target]
        stay.update({later[-1]} if target < 0 else {target, later[-1]})
    return frozenset(stay)


def rollback_order(found: Iterable[Checkpoint], at_most_step: int) -> Sequence[Checkpoint]:
    """The order in which a rollback tries checkpoints: the newest up to `at_most_step` first, and
    after all those the others, the oldest first. Of equal steps the first found comes first."""
    oldest_first = sorted(found, key=lambda checkpoint: checkpoint.step)
    newest_first = sorted(oldest_first, key=lambda checkpoint: checkpoint.step, reverse=True)
    old = [checkpoint for checkpoint in newest_first if checkpoint.step <= at_most_step]
    return old + [checkpoint for checkpoint in oldest_first if checkpoint.step > at_most_step]
