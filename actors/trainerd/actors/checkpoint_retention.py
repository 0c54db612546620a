"""Which checkpoints are kept, and which one a rollback goes to: rules over steps alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainerd.actors.checkpoint_files import Checkpoint


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
