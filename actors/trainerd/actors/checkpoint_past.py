"""Whether a checkpoint is of a run's own past, as the run's ledger tells it by now."""

from __future__ import annotations

from collections.abc import Iterable

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta, read_meta
from trainerd.actors.ledger import Entry, Ledger, Omission


def superseded(meta: CheckpointMeta, left_out: Iterable[Entry]) -> bool:
    """Whether a checkpoint's state was trained on something that `left_out` leaves out."""
    return trained_on(meta, left_out) is not None


def same_past(existing: Checkpoint, meta: CheckpointMeta) -> bool:
    """Whether a checkpoint of the same step was made on the same batches as `meta` says."""
    try:
        there = read_meta(existing.path)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return there.batch == meta.batch and not superseded(there, meta.ledger)


def trained_on(meta: CheckpointMeta, left_out: Iterable[Entry]) -> int | None:
    """The first batch of `left_out` that a checkpoint's state was trained on; None: none.

    One counts too of which the checkpoint left out fewer slots.
    """
    own = Ledger(meta.ledger)
    found = (_first(own, entry, meta.batch) for entry in left_out if entry.first_batch < meta.batch)
    return min((batch for batch in found if batch is not None), default=None)


def _first(own: Ledger, entry: Entry, cursor: int) -> int | None:
    """The first batch of `entry` below `cursor` of which `own` leaves out less."""
    end = min(entry.last_batch + 1, cursor)
    batch = own.next_fed(entry.first_batch)
    while batch < end:
        if entry.decision is Omission.SKIP or not set(entry.slots or ()) <= set(own.masked(batch)):
            return batch
        batch = own.next_fed(batch + 1)
    return None
