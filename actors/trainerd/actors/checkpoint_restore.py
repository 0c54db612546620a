"""Restoring: the newest checkpoint that is sound, whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from trainerd.actors import checkpoint_files as files
from trainerd.actors import checkpoint_manifest
from trainerd.actors.checkpoint_comparison import compare
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_finding import Found, find
from trainerd.actors.checkpoint_manifest import Manifest, Unverified
from trainerd.actors.checkpoint_meta import CheckpointMeta, read_meta
from trainerd.actors.checkpoint_noise import hushed
from trainerd.actors.checkpoint_past import trained_on
from trainerd.actors.checkpoint_rejection import Rejections
from trainerd.actors.checkpoint_retention import rollback_order
from trainerd.actors.checkpoint_tree import Nested, from_nested, leaf_kinds, to_nested
from trainerd.actors.checkpointer import by_itself
from trainerd.actors.ledger import Entry
from trainerd.actors.reports import Fault
from trainerd.actors.state import TrainState

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A state that was loaded, and where the run stood. `durable`: it is not of a snapshot.

    `passed_over`: paths of newer checkpoints that nobody could read; they may be good.
    """

    state: TrainState
    meta: CheckpointMeta
    checkpoint: Checkpoint
    durable: bool = True
    passed_over: frozenset[Path] = frozenset()


def restore_newest(
    directories: Sequence[Path],
    abstract: TrainState,
    faulted: Callable[[Fault], None],
    *,
    left_out: Sequence[Entry] = (),
    at_most_step: int | None = None,
    known: Checkpoint | None = None,
) -> Restored | None:
    """Load the newest durable checkpoint of all `directories` that is sound; None: there is none.

    With `at_most_step`, for a rollback: the newest of at most so many applied updates; where there
    is none, the oldest of the others. A directory may be a checkpoint itself: it then need not be
    durable. `abstract` gives shapes, dtypes and shardings; the devices need not be as many as those
    that saved. Every file is compared with the manifest, large ones while they are being loaded. A
    damaged checkpoint is reported, renamed and passed over; what cannot be read, a directory too,
    is reported, left as it is and passed over; a checkpoint that is superseded, as its state was
    trained on a batch that `left_out` leaves out, is logged and passed over.

    `known`: the newest durable one that the run is known to have; if it is not there, that is
    reported, and nothing instead of it is an error.

    Raises `CheckpointsUnreadableError` if no sound one is left and something could not be read, or
    is not there that should be; `CheckpointsDamagedError` if all there were are damaged; and
    `CheckpointMismatchError` if a sound one holds another state than the program's.
    """
    found = find(directories)
    rejections = Rejections(found, faulted, known=known)
    restored = load_newest(
        found, abstract, rejections, left_out=left_out, at_most_step=at_most_step
    )
    rejections.conclude(anything=restored is not None)
    return restored


def load_newest(
    found: Found,
    abstract: TrainState,
    rejections: Rejections,
    *,
    left_out: Sequence[Entry] = (),
    at_most_step: int | None = None,
) -> Restored | None:
    """Load the newest of `found` that can be used; None: there is none, and `rejections` knows why.

    See `restore_newest`; the caller concludes the rejections.
    """
    target = to_nested(abstract)
    kinds = leaf_kinds(target)
    most = sys.maxsize if at_most_step is None else at_most_step
    for checkpoint in rollback_order(found.checkpoints, most):
        try:
            with hushed():
                manifest = _structure(checkpoint.path, named=checkpoint.path in found.named)
                held, meta = _held(checkpoint.path)
        except Exception as error:
            rejections.add(checkpoint, error)
            continue
        if (batch := trained_on(meta, left_out)) is not None:
            rejections.superseded(checkpoint, batch)
            continue
        compare(checkpoint.step, held, kinds)
        try:
            with hushed(), _verified_meanwhile(checkpoint.path, manifest):
                nested = _load(checkpoint, target)
        except Exception as error:
            rejections.add(checkpoint, error)
            continue
        return Restored(
            state=from_nested(nested, abstract),
            meta=meta,
            checkpoint=checkpoint,
            passed_over=rejections.kept,
        )
    return None


def _structure(path: Path, *, named: bool) -> Manifest | None:
    """Verify all that Orbax is to read but the arrays; None: a user wants it unverified."""
    try:
        return checkpoint_manifest.verify_structure(path)
    except Unverified as error:
        if not named:
            # It had one a moment ago: it is being removed, or its file system is.
            raise
        _log.warning("%s; it is restored unverified, as it was named itself", error)
        return None


@contextlib.contextmanager
def _verified_meanwhile(path: Path, manifest: Manifest | None) -> Iterator[None]:
    """Digest the arrays' files while they are being loaded. Raises what is wrong with them.

    That comes before whatever the loading raised: it says why.
    """
    if manifest is None:
        yield
        return
    with ThreadPoolExecutor(1, "trainerd-verify") as thread:
        verified = thread.submit(checkpoint_manifest.verify_data, path, manifest)
        try:
            yield
        except Exception:
            verified.result()
            raise
        verified.result()


def _held(path: Path) -> tuple[dict[str, str], CheckpointMeta]:
    """What a checkpoint says of itself, without reading an array."""
    meta = read_meta(path)
    with _reader() as reader:
        held = reader.metadata(path / files.STATE).item_metadata
    if held is None:
        # Orbax logs why, and raises nothing.
        raise ValueError("Orbax cannot read its metadata")
    return leaf_kinds(held), meta


def _reader() -> ocp.StandardCheckpointer:
    return ocp.StandardCheckpointer(multiprocessing_options=by_itself())


def _load(checkpoint: Checkpoint, target: Nested) -> Nested:
    with _reader() as reader:
        loaded: Nested = reader.restore(checkpoint.path / files.STATE, target)
    jax.block_until_ready(loaded)
    if (step := int(loaded["step"])) != checkpoint.step:
        raise ValueError(f"its state is of step {step}")
    return loaded
