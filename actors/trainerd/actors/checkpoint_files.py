"""The files of checkpoints: which directories are committed, what may be removed.

A checkpoint is `<directory>/<step>/` in Orbax's own layout. Orbax writes into a directory with a
temporary suffix and renames it, so that a step directory with its metadata file is *committed*.
Anything else with a number for a name is debris, and never counts. One with a manifest is
*durable*: only such a one is offered to restore from, unless a user names another himself.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainerd.actors.checkpoint_manifest import MANIFEST

STATE = "state"
META = "meta"
TEMPORARY = ".orbax-checkpoint-tmp"
DAMAGED = ".damaged"
_COMMITTED = ("_CHECKPOINT_METADATA", f"{STATE}/_METADATA", f"{META}/metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A committed checkpoint on disk."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A directory of checkpoints, or one checkpoint (`step` ≥ 0), that cannot be looked at."""

    path: Path
    error: OSError
    step: int = -1


def is_committed(path: Path) -> bool:
    """Whether a step directory is complete, as far as its files' names can tell. Raises OSError
    if nobody can look into it."""
    return all((path / name).is_file() for name in _COMMITTED)


def is_durable(path: Path) -> bool:
    """Whether a committed step directory has its manifest: it was read back and synced to disk."""
    return (path / MANIFEST).is_file() and is_committed(path)


def look(directory: Path) -> tuple[list[Checkpoint], list[Unreadable]]:
    """The committed checkpoints of a directory, newest first, and those nobody can look into.

    Not all of the former are durable; see `durable`. Nothing if the directory does not exist.
    Raises OSError if it cannot be listed.
    """
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    found: list[Checkpoint] = []
    unreadable: list[Unreadable] = []
    for name in names:
        if not (name.isascii() and name.isdecimal()):
            continue
        path = directory / name
        try:
            if is_committed(path):
                found.append(Checkpoint(step=int(name), path=path))
        except OSError as error:
            unreadable.append(Unreadable(step=int(name), path=path, error=error))
    return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True), unreadable


def committed(directory: Path) -> list[Checkpoint]:
    """The committed checkpoints of a directory, newest first: the first of what `look` returns."""
    return look(directory)[0]


def durable(directory: Path) -> list[Checkpoint]:
    """The durable checkpoints of a directory, newest first; none if it does not exist."""
    return [checkpoint for checkpoint in committed(directory) if is_durable(checkpoint.path)]


def set_aside(path: Path) -> Path:
    """Rename a damaged step directory so that nothing takes it for a checkpoint. Kept for ever."""
    for attempt in range(1000):
        aside = path.with_name(f"{path.name}{DAMAGED}" + (f".{attempt}" if attempt else ""))
        if not aside.exists():
            path.rename(aside)
            return aside
    raise FileExistsError(f"{path} cannot be set aside: 1000 damaged ones are already there")


def remove_debris(directory: Path) -> None:
    """Remove what saves cut short have left behind. The caller has no save in flight."""
    for entry in directory.glob(f"*{TEMPORARY}*"):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, onerror=_unless_gone)
        else:
            entry.unlink(missing_ok=True)


def remove(checkpoint: Checkpoint) -> None:
    """Remove a committed checkpoint."""
    # Renamed first: a checkpoint half removed must not look committed.
    doomed = checkpoint.path.with_name(f"{checkpoint.path.name}.removed{TEMPORARY}")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.path.rename(doomed)
    shutil.rmtree(doomed, onerror=_unless_gone)


def _unless_gone(_function: object, _path: str, raised: Any) -> None:
    """Another thread may be removing the same."""
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


def size_bytes(path: Path) -> int:
    """Sum of the sizes of all files below `path`."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def make_writable(directory: Path) -> None:
    """Create a directory and try to write in it. Raises OSError with the cause.

    Tried before Orbax is: its threads do not end after some failures of this kind.
    """
    directory.mkdir(parents=True, exist_ok=True)
    probe = directory / f".probe{TEMPORARY}"
    shutil.rmtree(probe, ignore_errors=True)
    probe.mkdir()
    (probe / "file").write_bytes(b"\0" * 4096)
    shutil.rmtree(probe)
