"""What a member of a gang could begin with: its snapshots, and the checkpoints it can read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_finding import Found
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_past import trained_on
from trainerd.actors.checkpoint_rejection import Rejections
from trainerd.actors.checkpoint_restore import Restored, load_newest
from trainerd.actors.checkpoint_retention import rollback_order
from trainerd.actors.gang_state import Offer, position_digest
from trainerd.actors.ledger import Entry
from trainerd.actors.reports import Fault
from trainerd.actors.snapshot_restore import found, load
from trainerd.actors.snapshots import SnapshotStore
from trainerd.actors.state import TrainState


def offers(
    there: Found,
    snapshots: SnapshotStore | None,
    abstract: TrainState,
    rejections: Rejections,
    faulted: Callable[[Fault], None],
    *,
    left_out: Sequence[Entry] = (),
    at_most_step: int | None = None,
) -> list[Offer]:
    """All states, the best first; `there`: the checkpoints, of which nothing is read yet.

    Of one step a snapshot comes before a checkpoint. What turns out to be of no use is told to
    `rejections`, or to `faulted` if it is a snapshot.
    """
    made: list[Offer] = []

    def unfit(meta: CheckpointMeta) -> str:
        batch = trained_on(meta, left_out)
        return "" if batch is None else f"it was trained on batch {batch}, which is left out by now"

    if snapshots is not None:
        made += [
            Offer(
                step=snapshot.step,
                load=partial(load, snapshot, abstract, faulted),
                token=f"{snapshot.stamp} {position_digest(snapshot.meta)}",
            )
            for snapshot in found(snapshots.files, abstract, unfit=unfit)
            if at_most_step is None or snapshot.step <= at_most_step
        ]

    def from_disk(checkpoint: Checkpoint) -> Restored | None:
        one = replace(there, checkpoints=(checkpoint,))
        return load_newest(one, abstract, rejections, left_out=left_out)

    most = sys.maxsize if at_most_step is None else at_most_step
    made += [
        Offer(step=checkpoint.step, load=partial(from_disk, checkpoint))
        for checkpoint in rollback_order(there.checkpoints, most)
    ]
    # Stable: of one step what was added first comes first.
    return sorted(made, key=lambda offer: _rank(offer.step, at_most_step), reverse=True)


def settle(snapshots: SnapshotStore | None, restored: Restored | None) -> None:
    """Forget the snapshots that are not of the past of what the run goes on from."""
    if snapshots is None:
        return
    if restored is not None:
        for file in snapshots.files:
            if file.path == restored.checkpoint.path:
                snapshots.keep(file, restored.checkpoint.step)
                return
    snapshots.discard_after(-1 if restored is None else restored.checkpoint.step)


def _rank(step: int, at_most_step: int | None) -> tuple[bool, int]:
    fits = at_most_step is None or step <= at_most_step
    return fits, step if fits else -step
