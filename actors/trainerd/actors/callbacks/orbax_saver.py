"""Saving with Orbax alone, for a loop of one's own."""

from __future__ import annotations

import glob
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

import jax
import orbax.checkpoint as ocp

from trainerd.actors import checkpoint_files as files
from trainerd.actors.callbacks.access import SaveDone
from trainerd.actors.checkpoint_tree import to_nested
from trainerd.actors.errors import CheckpointError
from trainerd.actors.state import PyTree, TrainState

_SAVING = ".saving"
_REPLACED = ".replaced"
_FILES = ("_CHECKPOINT_METADATA", "_METADATA")


@final
class OrbaxSaver:
    """A `StateSaver` that writes one pytree a directory, in Orbax's own layout.

    `state` returns the pytree to save: a `TrainState`, written as nested dicts, or any pytree of
    arrays. It is called by each save, in the caller's thread. Orbax reads what is written without
    this project: `StandardCheckpointer().restore(path, target)`.

    `save` returns once the arrays are copied; the rest is done by a thread that ends with the
    save. Written beside `path` and renamed, so that whatever is at `path` is whole; a checkpoint
    that is replaced is renamed to `….replaced` first, and both are whole if the process dies
    between the two renames. A failed save leaves nothing behind. For one process: a gang saves
    through its engine. One save at a time, which is what `ModelCheckpoint` does.
    """

    def __init__(self, state: Callable[[], PyTree]) -> None:
        self._state = state

    def save(self, path: Path, done: SaveDone) -> None:
        """Save to `path`; see `StateSaver.save`. Raises OSError where it cannot be written."""
        if jax.process_count() > 1:
            raise CheckpointError(
                f"OrbaxSaver saves from one process, there are {jax.process_count()}",
                suggestion="let Engine.fit save",
            )
        path = path.absolute()
        # Tried before Orbax does: its threads do not end after some failures.
        for place in (path, path.parent):
            if place.exists() and not place.is_dir():
                raise NotADirectoryError(20, "not a directory", str(place))
        files.make_writable(path.parent)
        _clear(path)
        tree = self._state()
        # Orbax would go on to make a directory after a save that has raised.
        synchronous = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        checkpointer = ocp.StandardCheckpointer(async_options=synchronous)
        try:
            checkpointer.save(
                _beside(path, _SAVING), to_nested(tree) if isinstance(tree, TrainState) else tree
            )
        except BaseException:
            checkpointer.close()
            _clear(path)
            raise
        threading.Thread(
            target=_see_through,
            args=(checkpointer, path, done),
            name="trainerd-model-checkpoint",
            daemon=True,
        ).start()


def _see_through(checkpointer: ocp.StandardCheckpointer, path: Path, done: SaveDone) -> None:
    failure: Exception | None = None
    try:
        try:
            checkpointer.wait_until_finished()
        finally:
            checkpointer.close()
        _commit(path)
    except Exception as error:
        failure = error
        _clear(path)
    done(failure)


def _commit(path: Path) -> None:
    written, replaced = _beside(path, _SAVING), _beside(path, _REPLACED)
    if not all((written / name).is_file() for name in _FILES):
        raise FileNotFoundError(2, "the save ended without a checkpoint", str(written))
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    written.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def _clear(path: Path) -> None:
    """Remove what saves cut short have left beside `path`."""
    for left in path.parent.glob(f"{glob.escape(path.name)}{_SAVING}*"):
        shutil.rmtree(left, ignore_errors=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
