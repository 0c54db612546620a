"""Which incarnation of a run may make checkpoints durable: a file beside them says so.

A gang that was given up may go on for a while where nobody can reach it. Before the next one starts
its number is written here, with the checkpoints that are durable by then; whoever is about to make
another one durable looks here last of all. What an older incarnation finishes all the same, in the
moment between its look and its rename, is known by its number, and by not being on the list.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainerd.actors import checkpoint_manifest
from trainerd.actors.checkpoint_files import Checkpoint, durable
from trainerd.v1 import launcher_pb2

FENCE = "trainerd.fence"


class Superseded(OSError):
    """A newer incarnation of the run saves here."""

    def __init__(self, directory: Path, own: int, newer: int) -> None:
        super().__init__(
            errno.ESTALE,
            f"incarnation {newer} of the run has taken the place of {own}",
            str(directory),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """The newest incarnation, and what was durable before it: steps with their writers' numbers."""

    run: str
    incarnation: int
    durable: frozenset[tuple[int, int]] = frozenset()

    def accepts(self, checkpoint: Checkpoint) -> bool:
        """Whether a durable checkpoint was made by the newest incarnation, or before it. May raise
        what `checkpoint_manifest.writer` does."""
        writer = checkpoint_manifest.writer(checkpoint.path)
        return writer >= self.incarnation or (checkpoint.step, writer) in self.durable


def number(assignment: launcher_pb2.Assignment) -> int:
    """Under which number a process saves; 0: without one, as its run never has several hosts.

    An incarnation on one host has one where there may have been others: they may still train.
    """
    several = assignment.HasField("gang") or assignment.spec.hosts.count > 1
    return assignment.incarnation if several else 0


def read(directory: Path) -> Fence | None:
    """The fence of a directory; None: there is none. Raises OSError, also for a damaged one."""
    try:
        values = json.loads((directory / FENCE).read_bytes())
        return Fence(
            run=str(values["run"]),
            incarnation=int(values["incarnation"]),
            durable=frozenset((int(step), int(writer)) for step, writer in values["durable"]),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(
            errno.EIO, f"the fence is damaged: {error}", str(directory / FENCE)
        ) from error


def raise_to(directory: Path, run: str, incarnation: int) -> None:
    """Let nobody but `incarnation` of `run`, and later ones, make checkpoints durable here.

    Raises `Superseded` if a later one has done so, and OSError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = read(directory)
    if before is not None and before.incarnation == incarnation:
        return
    refuse_superseded(directory, incarnation, before)
    found = accepted(durable(directory), before)
    entries = sorted((each.step, checkpoint_manifest.writer(each.path)) for each in found)
    values = {"run": run, "incarnation": incarnation, "durable": entries}
    # Another host may do the same: each has a scratch file of its own.
    scratch = directory / f"{FENCE}.{os.uname().nodename}.{os.getpid()}.new"
    try:
        with open(scratch, "w", encoding="ascii") as stream:
            json.dump(values, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(scratch, directory / FENCE)
    finally:
        scratch.unlink(missing_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_superseded(directory: Path, incarnation: int, fence: Fence | None = None) -> None:
    """Raise `Superseded` if a later incarnation than this one saves in `directory`; OSError.

    `incarnation` 0: no gang, which knows no fence.
    """
    fence = fence or read(directory)
    if incarnation and fence is not None and fence.incarnation > incarnation:
        raise Superseded(directory, incarnation, fence.incarnation)


def accepted(found: Iterable[Checkpoint], fence: Fence | None) -> list[Checkpoint]:
    """Of durable checkpoints of one directory those that its fence accepts.

    One whose manifest says nothing of its writer is left to whoever verifies it.
    """
    kept = []
    for checkpoint in found:
        try:
            if fence is None or fence.accepts(checkpoint):
                kept.append(checkpoint)
        except (checkpoint_manifest.DigestMismatch, checkpoint_manifest.Unverified):
            kept.append(checkpoint)
        except FileNotFoundError:
            continue  # Removed meanwhile.
    return kept
