"""What there is to restore from: durable checkpoints, and what nobody can tell about just now.

What cannot be read is never taken for what is not there: a run that has states on a disk that does
not answer would begin anew, and bury them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainerd.actors import checkpoint_files as files
from trainerd.actors import fence
from trainerd.actors.checkpoint_files import Checkpoint, Unreadable
from trainerd.actors.checkpoint_manifest import MANIFEST

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What several directories hold. `named`: paths that a user named himself, as checkpoints:
    those need not be durable."""

    checkpoints: tuple[Checkpoint, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    named: frozenset[Path] = frozenset()


def find(directories: Iterable[Path]) -> Found:
    """The durable checkpoints of all `directories`; one may be a checkpoint itself.

    What is committed only is logged and left out: its save was cut short, or something else wrote
    it. Each directory is looked at, whatever the others are like.
    """
    checkpoints: list[Checkpoint] = []
    unreadable: list[Unreadable] = []
    named: set[Path] = set()
    for directory in directories:
        try:
            if directory.name.isdecimal() and files.is_committed(directory):
                checkpoints.append(Checkpoint(step=int(directory.name), path=directory))
                named.add(directory)
                continue
            committed, hidden = files.look(directory)
            raised = fence.read(directory)
        except OSError as error:
            unreadable.append(Unreadable(path=directory, error=error))
            continue
        unreadable += hidden
        for each in committed:
            try:
                if _durable(each.path) and _accepted(each, raised):
                    checkpoints.append(each)
            except OSError as error:
                unreadable.append(Unreadable(path=each.path, error=error, step=each.step))
    return Found(
        checkpoints=tuple(checkpoints), unreadable=tuple(unreadable), named=frozenset(named)
    )


def _accepted(checkpoint: Checkpoint, raised: fence.Fence | None) -> bool:
    """Whether it is of the run's past; one that is not is logged. Raises OSError."""
    if fence.accepted([checkpoint], raised):
        return True
    _log.warning(
        "checkpoint %s is passed over: an incarnation wrote it that was over by then",
        checkpoint.path,
    )
    return False


def _durable(path: Path) -> bool:
    """Whether a committed one is durable; one that is not is logged. Raises OSError."""
    if files.is_durable(path):
        return True
    _log.warning(
        "checkpoint %s is passed over: it has no %s, so nothing vouches for it; if you trust it, "
        "`trainerctl checkpoints RUN --adopt %s` makes it durable as it is",
        path,
        MANIFEST,
        path.name,
    )
    return False
