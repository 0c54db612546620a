"""The newest state there is of a run: a snapshot in memory, or a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_finding import Found, find
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_past import trained_on
from trainerd.actors.checkpoint_rejection import Rejections
from trainerd.actors.checkpoint_restore import Restored, load_newest, restore_newest
from trainerd.actors.ledger import Entry
from trainerd.actors.reports import Fault
from trainerd.actors.snapshot_restore import found, load
from trainerd.actors.snapshots import SnapshotStore
from trainerd.actors.state import TrainState


def restore(
    directories: Sequence[Path],
    snapshots: SnapshotStore | None,
    abstract: TrainState,
    faulted: Callable[[Fault], None],
    *,
    left_out: Sequence[Entry] = (),
    at_most_step: int | None = None,
    known: Checkpoint | None = None,
) -> Restored | None:
    """Load the newest sound state of all `directories` and `snapshots`; see `restore_newest`.

    Of a snapshot and a checkpoint of one step the snapshot is taken. Snapshots that are newer than
    what is loaded are forgotten: they are damaged, or not of this run's past.
    """
    if snapshots is None:
        return restore_newest(
            directories,
            abstract,
            faulted,
            left_out=left_out,
            at_most_step=at_most_step,
            known=known,
        )

    def unfit(meta: CheckpointMeta) -> str:
        batch = trained_on(meta, left_out)
        return "" if batch is None else f"it was trained on batch {batch}, which is left out by now"

    there = find(directories)
    rejections = Rejections(there, faulted, known=known)
    for snapshot in found(snapshots.files, abstract, unfit=unfit):
        if at_most_step is not None and snapshot.step > at_most_step:
            continue
        newer, there = _split(there, snapshot.step, at_most_step)
        restored = load_newest(newer, abstract, rejections, left_out=left_out)
        if restored is None:
            restored = load(snapshot, abstract, faulted)
            if restored is not None:
                snapshots.keep(snapshot.file, snapshot.step)
                restored = replace(restored, passed_over=rejections.kept)
        else:
            snapshots.discard_after(restored.checkpoint.step)
        if restored is not None:
            rejections.conclude(anything=True)
            return restored
    restored = load_newest(
        there, abstract, rejections, left_out=left_out, at_most_step=at_most_step
    )
    rejections.conclude(anything=restored is not None)
    snapshots.discard_after(-1 if restored is None else restored.checkpoint.step)
    return restored


def _split(there: Found, step: int, at_most_step: int | None) -> tuple[Found, Found]:
    """What is newer than a snapshot of `step`, though not than `at_most_step`; and the rest."""
    most = sys.maxsize if at_most_step is None else at_most_step
    newer = [each for each in there.checkpoints if step < each.step <= most]
    rest = [each for each in there.checkpoints if each not in newer]
    return (
        replace(there, checkpoints=tuple(newer)),
        replace(there, checkpoints=tuple(rest)),
    )
