"""Restoring: the newest checkpoint that is sound, whole or not at all."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta, read_meta
from trainerd.actors.checkpoint_noise import hushed
from trainerd.actors.checkpoint_past import trained_on
from trainerd.actors.checkpoint_retention import rollback_order
from trainerd.actors.checkpoint_tree import Nested, from_nested, leaf_kinds, to_nested
from trainerd.actors.errors import (
    CheckpointError,
    CheckpointMismatchError,
    CheckpointsDamagedError,
)
from trainerd.actors.ledger import Entry
from trainerd.actors.reports import Fault, FaultClass, Phase
from trainerd.actors.state import TrainState

_SHOWN_LEAVES = 8

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
    """Load the newest sound checkpoint of all `directories`; None if there is none.

    With `at_most_step`, for a rollback: the newest of at most so many applied updates; where there
    is none, the oldest of the others. A directory may be a checkpoint itself. `abstract` gives
    shapes, dtypes and shardings. A damaged checkpoint is reported, renamed and passed over; one
    that is superseded, as its state was trained on a batch that `left_out` leaves out, is logged
    and passed over.

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
        _compare(checkpoint, held, kinds)
        try:
            with hushed():
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
    """The committed checkpoints of a directory, or the one that it is. Raises `CheckpointError`."""
    try:
        if directory.name.isdecimal() and files.is_committed(directory):
            return [Checkpoint(step=int(directory.name), path=directory)]
        return files.committed(directory)
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
    why = f"{type(error).__name__}: {lines[0]}"
    try:
        kept = f"kept as {files.set_aside(checkpoint.path)}"
    except OSError as refused:
        kept = f"and could not be renamed: {refused}"
    faulted(
        Fault(
            fault_class=FaultClass.CHECKPOINT_CORRUPT,
            message=f"checkpoint of step {checkpoint.step} cannot be read ({why}); {kept}",
            suggestion="the next older one is used",
            step=checkpoint.step,
            phase=Phase.RESTORE,
            reason="serialization",
        )
    )
    return f"{checkpoint.path} ({why})"


def _held(path: Path) -> tuple[dict[str, str], CheckpointMeta]:
    """What a checkpoint says of itself, without reading an array."""
    meta = read_meta(path)
    with ocp.StandardCheckpointer() as reader:
        held = reader.metadata(path / files.STATE).item_metadata
    if held is None:
        # Orbax logs why, and raises nothing.
        raise ValueError("Orbax cannot read its metadata")
    return leaf_kinds(held), meta


def _load(checkpoint: Checkpoint, target: Nested) -> Nested:
    with ocp.StandardCheckpointer() as reader:
        loaded: Nested = reader.restore(checkpoint.path / files.STATE, target)
    jax.block_until_ready(loaded)
    if (step := int(loaded["step"])) != checkpoint.step:
        raise ValueError(f"its state is of step {step}")
    return loaded


def _compare(checkpoint: Checkpoint, there: dict[str, str], here: dict[str, str]) -> None:
    """Refuse a checkpoint whose leaves are not exactly the program's, by path, shape, dtype."""
    problems = [
        _difference(name, there.get(name), here.get(name))
        for name in sorted(there.keys() | here.keys(), key=_parameters_first)
        if there.get(name) != here.get(name)
    ]
    if problems:
        more = len(problems) - _SHOWN_LEAVES
        raise CheckpointMismatchError(
            f"the checkpoint of step {checkpoint.step} holds another state than the program's: "
            + "; ".join(problems[:_SHOWN_LEAVES])
            + (f"; and {more} more" if more > 0 else ""),
            suggestion="run the program and arguments that made it, or begin a new run",
        )


def _parameters_first(name: str) -> tuple[bool, str]:
    return not name.startswith("params/"), name


def _difference(name: str, there: str | None, here: str | None) -> str:
    if there is None:
        return f"{name} ({here}) is not in the checkpoint"
    if here is None:
        return f"{name} ({there}) is not in the program"
    return f"{name} is {there} in the checkpoint, {here} in the program"
