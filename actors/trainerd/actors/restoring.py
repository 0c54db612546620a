"""The newest state there is of a run: a snapshot in memory, or a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_past import trained_on
from trainerd.actors.checkpoint_restore import Restored, listed, restore_newest
from trainerd.actors.errors import CheckpointsDamagedError
from trainerd.actors.ledger import Entry
from trainerd.actors.reports import Fault
from trainerd.actors.snapshot_restore import found, load
from trainerd.actors.snapshots import SnapshotStore
from trainerd.actors.state import TrainState

_log = logging.getLogger(__name__)


def restore(
    directories: Sequence[Path],
    snapshots: SnapshotStore | None,
    abstract: TrainState,
    faulted: Callable[[Fault], None],
    *,
    left_out: Sequence[Entry] = (),
    at_most_step: int | None = None,
) -> Restored | None:
    """Load the newest sound state of all `directories` and `snapshots`; see `restore_newest`.

    Of a snapshot and a checkpoint of one step the snapshot is taken. Snapshots that are newer than
    what is loaded are forgotten: they are damaged, or not of this run's past.
    """
    if snapshots is None:
        return restore_newest(
            directories, abstract, faulted, left_out=left_out, at_most_step=at_most_step
        )

    def unfit(meta: CheckpointMeta) -> str:
        batch = trained_on(meta, left_out)
        return "" if batch is None else f"it was trained on batch {batch}, which is left out by now"

    for snapshot in found(snapshots.files, abstract, unfit=unfit):
        if at_most_step is not None and snapshot.step > at_most_step:
            continue
        newer = [
            checkpoint.path
            for directory in directories
            for checkpoint in listed(directory)
            if checkpoint.step > snapshot.step
            and (at_most_step is None or checkpoint.step <= at_most_step)
        ]
        try:
            restored = restore_newest(newer, abstract, faulted, left_out=left_out)
        except CheckpointsDamagedError as error:
            _log.warning("%s; the snapshot of step %d is used", error.message, snapshot.step)
            restored = None
        if restored is not None:
            snapshots.discard_after(restored.checkpoint.step)
            return restored
        restored = load(snapshot, abstract, faulted)
        if restored is not None:
            snapshots.keep(snapshot.file, snapshot.step)
            return restored
    restored = restore_newest(
        directories, abstract, faulted, left_out=left_out, at_most_step=at_most_step
    )
    snapshots.discard_after(-1 if restored is None else restored.checkpoint.step)
    return restored
