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

from trainerd.actors import checkpoint_damage, checkpoint_manifest, fence
from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_comparison import compare
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_manifest import DigestMismatch, Manifest, Unverified
from trainerd.actors.checkpoint_meta import CheckpointMeta, read_meta
from trainerd.actors.checkpoint_noise import hushed
from trainerd.actors.checkpoint_past import trained_on
from trainerd.actors.checkpoint_retention import rollback_order
from trainerd.actors.checkpoint_tree import Nested, from_nested, leaf_kinds, to_nested
from trainerd.actors.checkpointer import by_itself
from trainerd.actors.errors import CheckpointError, CheckpointsDamagedError
from trainerd.actors.ledger import Entry
from trainerd.actors.reports import Fault, FaultClass, Phase
from trainerd.actors.state import TrainState

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A state that was loaded, and where the run stood. `durable`: it is not of a snapshot."""

    state: TrainState
    meta: CheckpointMeta
    checkpoint: Checkpoint
    durable: bool = True


def restore_newest(
    directories: Sequence[Path],
    abstract: TrainState,
    faulted: Callable[[Fault], None],
    *,
    left_out: Sequence[Entry] = (),
    at_most_step: int | None = None,
) -> Restored | None:
    """Load the newest durable checkpoint of all `directories` that is sound; None: there is none.

    With `at_most_step`, for a rollback: the newest of at most so many applied updates; where there
    is none, the oldest of the others. A directory may be a checkpoint itself: it then need not be
    durable. `abstract` gives shapes, dtypes and shardings; the devices need not be as many as those
    that saved. Every file is compared with the manifest, large ones while they are being loaded. A
    damaged checkpoint is reported, renamed and passed over; one that is superseded, as its state
    was trained on a batch that `left_out` leaves out, is logged and passed over.

    Raises `CheckpointsDamagedError` if there were damaged ones and no sound one is left,
    `CheckpointMismatchError` if a sound one holds another state than the program's, and
    `CheckpointError` if a directory cannot be listed.
    """
    found = [checkpoint for directory in directories for checkpoint in listed(directory)]
    target = to_nested(abstract)
    kinds = leaf_kinds(target)
    tried: list[str] = []
    for checkpoint in rollback_order(found, sys.maxsize if at_most_step is None else at_most_step):
        try:
            with hushed():
                manifest = _structure(checkpoint.path)
                held, meta = _held(checkpoint.path)
        except Exception as error:
            tried.append(_damaged(checkpoint, error, faulted))
            continue
        if (batch := trained_on(meta, left_out)) is not None:
            _log.warning(
                "checkpoint %s is passed over: it was trained on batch %d, which is left out "
                "by now",
                checkpoint.path,
                batch,
            )
            continue
        compare(checkpoint.step, held, kinds)
        try:
            with hushed(), _verified_meanwhile(checkpoint.path, manifest):
                nested = _load(checkpoint, target)
        except Exception as error:
            tried.append(_damaged(checkpoint, error, faulted))
            continue
        return Restored(state=from_nested(nested, abstract), meta=meta, checkpoint=checkpoint)
    if tried:
        raise CheckpointsDamagedError(
            f"no sound checkpoint is left; tried {'; '.join(tried)}",
            suggestion="restore one from a backup, or begin a new run",
        )
    return None


def listed(directory: Path) -> list[Checkpoint]:
    """The durable checkpoints of a directory, or the one that it is. Raises `CheckpointError`.

    What is committed only is logged: its save was cut short, or something else wrote it.
    """
    try:
        if directory.name.isdecimal() and files.is_committed(directory):
            return [Checkpoint(step=int(directory.name), path=directory)]
        committed = files.committed(directory)
        durable = [each for each in committed if files.is_durable(each.path)]
        sound = fence.accepted(durable, fence.read(directory))
        for each in durable:
            if each not in sound:
                _log.warning(
                    "checkpoint %s is passed over: an incarnation wrote it that was over by then",
                    each.path,
                )
        for each in committed:
            if each not in durable:
                _log.warning(
                    "checkpoint %s is passed over: it has no %s, so nothing vouches for it; name "
                    "its own path to restore it all the same",
                    each.path,
                    checkpoint_manifest.MANIFEST,
                )
        return sound
    except OSError as error:
        # Never taken for an empty one: the run would begin anew and bury what is there.
        raise CheckpointError(
            f"the checkpoints in {directory} cannot be listed: {error.strerror or error}",
            suggestion="let the trainer's user read the directory",
        ) from error


def _damaged(checkpoint: Checkpoint, error: Exception, faulted: Callable[[Fault], None]) -> str:
    """Report and rename a damaged checkpoint; say what was tried. Not its fault: raise again."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        raise error
    lines = str(error).strip().splitlines() or ["no message"]
    mismatch = isinstance(error, DigestMismatch)
    why = lines[0] if mismatch else f"{type(error).__name__}: {lines[0]}"
    reason = "digest_mismatch" if mismatch else "serialization"
    try:
        kept = f"kept as {checkpoint_damage.mark(checkpoint.path, reason=reason, problem=why)}"
    except OSError as refused:
        kept = f"and could not be renamed: {refused}"
    faulted(
        Fault(
            fault_class=FaultClass.CHECKPOINT_CORRUPT,
            message=f"checkpoint of step {checkpoint.step} cannot be used ({why}); {kept}",
            suggestion="the next older one is used",
            step=checkpoint.step,
            phase=Phase.RESTORE,
            reason=reason,
        )
    )
    return f"{checkpoint.path} ({why})"


def _structure(path: Path) -> Manifest | None:
    """Verify all that Orbax is to read but the arrays; None: a user wants it unverified."""
    try:
        return checkpoint_manifest.verify_structure(path)
    except Unverified as error:
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
