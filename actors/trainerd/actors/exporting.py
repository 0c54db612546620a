"""Parameters alone: what is handed on of a run, for Orbax to read without this project."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from trainerd.actors import checkpoint_files as files
from trainerd.actors import checkpoint_manifest
from trainerd.actors.checkpoint_manifest import DigestMismatch, Unverified
from trainerd.actors.errors import CheckpointError

PARAMETERS = "params"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written: arrays, the numbers in them, and bytes on disk."""

    arrays: int
    parameters: int
    size_bytes: int


def export_parameters(checkpoint: Path, directory: Path) -> Exported:
    """Verify a durable checkpoint and write its parameters to `directory`, as nested dicts.

    `StandardCheckpointer().restore(directory)` reads them; parameters that are one array stand
    under "params". `directory` must not exist, or be empty; it is whole or not there. Neither the
    program nor the devices that trained it are needed. Raises `CheckpointError`, OSError.
    """
    try:
        checkpoint_manifest.verify(checkpoint)
    except (DigestMismatch, Unverified) as error:
        raise CheckpointError(
            f"the checkpoint cannot be trusted: {error}", suggestion="export another step"
        ) from error
    state = checkpoint / files.STATE
    with ocp.StandardCheckpointer() as reader:
        held = reader.metadata(state).item_metadata
    wanted = {
        PARAMETERS: jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), held[PARAMETERS]
        )
    }
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    with ocp.PyTreeCheckpointer() as partial:
        loaded = partial.restore(
            state,
            args=ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True),
        )
    parameters = loaded[PARAMETERS]
    if not isinstance(parameters, Mapping):
        parameters = loaded
    # Refused if anything is in it.
    with contextlib.suppress(FileNotFoundError):
        directory.rmdir()
    try:
        with ocp.StandardCheckpointer() as writer:
            writer.save(directory, parameters)
    except BaseException:
        for left in directory.parent.glob(f"{directory.name}{files.TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
        raise
    leaves = jax.tree.leaves(parameters)
    return Exported(
        arrays=len(leaves),
        parameters=sum(leaf.size for leaf in leaves),
        size_bytes=files.size_bytes(directory),
    )
