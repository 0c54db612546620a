"""Restoring from a snapshot: the newest that is whole, verified, and of the run's own past."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_restore import Restored
from trainerd.actors.reports import Fault, FaultClass, Phase
from trainerd.actors.snapshot_file import SnapshotFile
from trainerd.actors.snapshot_format import Layout, Prefix, SnapshotDamaged
from trainerd.actors.snapshot_state import copy_in, layout_of
from trainerd.actors.snapshots import STAMP
from trainerd.actors.state import TrainState

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A file that says it holds a snapshot; its data is not verified yet.

    `stamp`: of the gang whose members have taken theirs with this one; see `SnapshotStore`.
    """

    file: SnapshotFile
    prefix: Prefix
    layout: Layout
    meta: CheckpointMeta
    stamp: str = ""

    @property
    def step(self) -> int:
        """Applied updates of its state."""
        return self.prefix.step


def found(
    files: Iterable[SnapshotFile],
    abstract: TrainState,
    *,
    unfit: Callable[[CheckpointMeta], str] = lambda _meta: "",
) -> list[Snapshot]:
    """The snapshots of states like `abstract` that `unfit` says nothing against, newest first.

    All others are passed over, and logged. Reads no data.
    """
    expected = layout_of(abstract)
    snapshots = []
    for file in files:
        try:
            prefix, layout, held = file.read()
            meta, stamp = CheckpointMeta.from_json(held), str(held.get(STAMP, ""))
        except FileNotFoundError:
            continue
        except (SnapshotDamaged, OSError, KeyError, TypeError, ValueError) as error:
            # Usually one that was being written when its process was killed.
            _log.info("snapshot %s is passed over: %s", file.path, error)
            continue
        why = (
            unfit(meta)
            if layout == expected
            else "it holds another state than the program's, or another part of it"
        )
        if why:
            _log.warning("snapshot %s is passed over: %s", file.path, why)
            continue
        snapshots.append(Snapshot(file=file, prefix=prefix, layout=layout, meta=meta, stamp=stamp))
    return sorted(snapshots, key=lambda snapshot: snapshot.step, reverse=True)


def load(
    snapshot: Snapshot, abstract: TrainState, faulted: Callable[[Fault], None]
) -> Restored | None:
    """Verify a snapshot and put its state onto the devices; None, reported: it is damaged."""
    path = snapshot.file.path
    try:
        with snapshot.file.data(snapshot.prefix) as content:
            state = copy_in(content, snapshot.layout, abstract)
        if int(state.step) != snapshot.step:
            raise SnapshotDamaged(f"its state is of step {int(state.step)}")
    except (SnapshotDamaged, OSError) as error:
        faulted(
            Fault(
                fault_class=FaultClass.CHECKPOINT_CORRUPT,
                message=f"snapshot of step {snapshot.step} in {path} cannot be used: {error}",
                suggestion="the next older state is used; see to this host's memory",
                step=snapshot.step,
                phase=Phase.RESTORE,
                reason="digest_mismatch",
            )
        )
        return None
    return Restored(
        state=state,
        meta=snapshot.meta,
        checkpoint=Checkpoint(step=snapshot.step, path=path),
        durable=False,
    )
