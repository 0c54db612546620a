"""The checkpoints of a run as they lie on this host's disk: durable or not, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from trainerd.actors import checkpoint_damage, checkpoint_manifest
from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_damage import Damaged
from trainerd.actors.checkpoint_files import Checkpoint, Unreadable
from trainerd.actors.checkpoint_manifest import MANIFEST, DigestMismatch, Unverified
from trainerd.actors.os_errors import os_error_reason
from trainerd.v1 import checkpoint_pb2

_ORBAX_METADATA = "_CHECKPOINT_METADATA"
_NS = 10**9


def stored(
    directories: Sequence[Path], *, verify: bool = False
) -> list[checkpoint_pb2.StoredCheckpoint]:
    """Every checkpoint in `directories`, newest first; a directory that cannot be listed is told of
    as one of step -1.

    `verify`: read all of the durable ones from the disk and compare them with their manifests; mark
    one that is not what was saved. What vanishes meanwhile is left out: a run removes its old ones.
    """
    found: list[checkpoint_pb2.StoredCheckpoint] = []
    there: list[Checkpoint] = []
    for place in directories:
        try:
            # Those that are marked already first: what is marked now is told with what is found.
            found += map(_kept, checkpoint_damage.damaged(place))
            committed, hidden = files.look(place)
        except OSError as error:
            found.append(_unreadable(Unreadable(path=place, error=error)))
            continue
        there += committed
        found += map(_unreadable, hidden)
    told = (stored_one(checkpoint, verify=verify) for checkpoint in there)
    found += (each for each in told if each is not None)
    return sorted(found, key=lambda each: (-each.step, each.state))


def stored_one(
    checkpoint: Checkpoint, *, verify: bool = False
) -> checkpoint_pb2.StoredCheckpoint | None:
    """A committed checkpoint, verified if asked for; None: it has vanished meanwhile."""
    path = checkpoint.path
    told = checkpoint_pb2.StoredCheckpoint(
        step=checkpoint.step,
        path=str(path),
        bytes=_size_bytes(path),
        state=checkpoint_pb2.CHECKPOINT_STATE_DURABLE,
    )
    try:
        checkpoint_manifest.read(path)
        _tell_times(told, path)
        if verify:
            _verify(path)
            told.verified = True
    except Unverified as error:
        told.state = checkpoint_pb2.CHECKPOINT_STATE_UNVERIFIED
        told.problem = f"{error}; a run passes over it, unless you --adopt {checkpoint.step}"
    except DigestMismatch as error:
        _tell_damage(told, "digest_mismatch", str(error))
        if verify:
            told.verified = True
            _mark(told, path)
    except OSError as error:
        if os.path.lexists(path):
            return _unreadable(Unreadable(path=path, error=error, step=checkpoint.step))
    return told if os.path.lexists(told.path) else None


def _unreadable(unreadable: Unreadable) -> checkpoint_pb2.StoredCheckpoint:
    """Nobody knows what is in it: it stays where it is."""
    path, error = unreadable.path, unreadable.error
    return checkpoint_pb2.StoredCheckpoint(
        step=unreadable.step,
        path=str(path),
        state=checkpoint_pb2.CHECKPOINT_STATE_UNREADABLE,
        reason=os_error_reason(error),
        problem=f"{error.filename or path} cannot be read: {error.strerror or error}",
    )


def _verify(path: Path) -> None:
    """Raise `DigestMismatch`, but not for one that another takes the place of meanwhile."""
    before = _identity(path)
    try:
        checkpoint_manifest.verify(path, from_disk=True)
    except (DigestMismatch, Unverified):
        if _identity(path) == before:
            # A run that removes it has renamed it by now.
            checkpoint_manifest.verify(path)
        else:
            checkpoint_manifest.verify(path, from_disk=True)


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = (path / MANIFEST).stat()
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_mtime_ns)


def _mark(told: checkpoint_pb2.StoredCheckpoint, path: Path) -> None:
    try:
        told.path = str(checkpoint_damage.mark(path, reason=told.reason, problem=told.problem))
    except OSError as error:
        told.problem += f"; it could not be renamed: {error.strerror or error}"


def _kept(damaged: Damaged) -> checkpoint_pb2.StoredCheckpoint:
    told = checkpoint_pb2.StoredCheckpoint(
        step=damaged.step, path=str(damaged.path), bytes=_size_bytes(damaged.path)
    )
    _tell_times(told, damaged.path)
    _tell_damage(told, damaged.damage.reason, damaged.damage.problem)
    if damaged.damage.found_at:
        told.damaged_time.FromDatetime(datetime.fromisoformat(damaged.damage.found_at))
    return told


def _tell_damage(told: checkpoint_pb2.StoredCheckpoint, reason: str, problem: str) -> None:
    told.state = checkpoint_pb2.CHECKPOINT_STATE_DAMAGED
    told.reason, told.problem = reason, problem


def _tell_times(told: checkpoint_pb2.StoredCheckpoint, path: Path) -> None:
    """When the manifest was written, and how long after Orbax had begun."""
    try:
        durable_ns = (path / MANIFEST).stat().st_mtime_ns
    except OSError:
        return
    told.saved_time.CopyFrom(Timestamp(seconds=durable_ns // _NS, nanos=durable_ns % _NS))
    try:
        begun_ns = int(json.loads((path / _ORBAX_METADATA).read_bytes())["init_timestamp_nsecs"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if 0 < begun_ns <= durable_ns:
        told.duration_s = (durable_ns - begun_ns) / _NS


def _size_bytes(path: Path) -> int:
    try:
        return files.size_bytes(path) if path.is_dir() else path.lstat().st_size
    except OSError:
        return 0
