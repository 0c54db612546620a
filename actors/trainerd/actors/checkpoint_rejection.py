"""Checkpoints that a restore cannot use: damaged ones are marked, what cannot be read is left.

The two are told apart with care. Only content that is not what its manifest says is damage; a disk
that does not answer, a right that is missing, or something Orbax does not understand says nothing
about the content: a later process may find it good.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path

from trainerd.actors import checkpoint_damage
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_finding import Found
from trainerd.actors.checkpoint_manifest import DigestMismatch
from trainerd.actors.errors import CheckpointsDamagedError, CheckpointsUnreadableError
from trainerd.actors.faults import save_failure_reason
from trainerd.actors.reports import Fault, FaultClass, Phase

_log = logging.getLogger(__name__)

NEXT = "the next older one is used"
_ADVICE = {
    "permission_denied": "let the trainer's user read it",
    "not_found": "look whether its file system is mounted, and who removes it",
    "io_error": "look at its device and at the kernel's log",
    "timeout": "look whether its file system still answers",
    "serialization": "look whether another version of Orbax or trainerd wrote it",
}


class Rejections:
    """What one restore could not use, and why; `faulted` is told of each at once.

    `found`: what it has to choose from. `known`: the newest durable checkpoint that the run is
    known to have; None: nobody knows of one. `conclude` it.
    """

    def __init__(
        self, found: Found, faulted: Callable[[Fault], None], *, known: Checkpoint | None = None
    ) -> None:
        self._faulted = faulted
        self._tried: list[str] = []
        self._unread = False
        self.kept: frozenset[Path] = frozenset()
        """Paths of checkpoints that could not be read and may be good."""
        self._missing = None if known is None or _is_there(found, known) else known
        for unreadable in found.unreadable:
            what = f"checkpoint of step {unreadable.step}"
            if unreadable.step < 0:
                what = "directory of checkpoints"
            self._passed_over(what, unreadable.step, unreadable.path, unreadable.error)

    def add(self, checkpoint: Checkpoint, error: Exception) -> None:
        """A checkpoint could not be used. Raises `error` if that is not the checkpoint's fault."""
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise error
        if isinstance(error, DigestMismatch):
            self._damaged(checkpoint, error)
        else:
            what = f"checkpoint of step {checkpoint.step}"
            self._passed_over(what, checkpoint.step, checkpoint.path, error)

    def superseded(self, checkpoint: Checkpoint, batch: int) -> None:
        """A sound one was trained on a batch that is left out by now."""
        _log.warning(
            "checkpoint %s is passed over: it was trained on batch %d, which is left out by now",
            checkpoint.path,
            batch,
        )
        # There is something to go on from before that batch: the beginning, at least.
        self._missing = None

    def conclude(self, *, anything: bool) -> None:
        """Tell of what is not there that should be. Unless `anything` could be used, raise the
        error that tells of all that was tried, if there was something."""
        if self._missing is not None:
            path = self._missing.path
            gone = FileNotFoundError(errno.ENOENT, "it was durable, and is not there", str(path))
            what = f"checkpoint of step {self._missing.step}"
            self._passed_over(what, self._missing.step, path, gone)
        tried = "; ".join(self._tried)
        if self._unread and not anything:
            raise CheckpointsUnreadableError(
                f"no checkpoint can be read, and there may be good ones; tried {tried}",
                suggestion="mend what keeps from reading them, or begin a new run",
            )
        if tried and not anything:
            raise CheckpointsDamagedError(
                f"no sound checkpoint is left; tried {tried}",
                suggestion="restore one from a backup, or begin a new run",
            )

    def _damaged(self, checkpoint: Checkpoint, error: DigestMismatch) -> None:
        why = _first_line(error)
        try:
            aside = checkpoint_damage.mark(checkpoint.path, reason="digest_mismatch", problem=why)
            kept = f"kept as {aside}"
        except OSError as refused:
            kept = f"and could not be renamed: {refused}"
        self._tell(
            f"checkpoint of step {checkpoint.step} cannot be used ({why}); {kept}",
            checkpoint.step,
            "digest_mismatch",
            NEXT,
        )
        self._tried.append(f"{checkpoint.path} ({why})")

    def _passed_over(self, what: str, step: int, path: Path, error: Exception) -> None:
        reason = save_failure_reason(error)
        text = error.strerror if isinstance(error, OSError) and error.strerror else None
        why = f"{type(error).__name__}: {text or _first_line(error)}"
        self._unread = True
        if step >= 0:
            self.kept |= {path}
        self._tell(
            f"{what} cannot be read, and is left as it is: {path} ({why})",
            max(step, 0),
            reason,
            "; ".join(filter(None, (_ADVICE.get(reason, ""), f"{NEXT} meanwhile"))),
        )
        self._tried.append(f"{path} ({why})")

    def _tell(self, message: str, step: int, reason: str, suggestion: str) -> None:
        self._faulted(
            Fault(
                fault_class=FaultClass.CHECKPOINT_CORRUPT,
                message=message,
                suggestion=suggestion,
                step=step,
                phase=Phase.RESTORE,
                reason=reason,
            )
        )


def _is_there(found: Found, known: Checkpoint) -> bool:
    """Whether it, or a newer one, is there, or lies where nobody can look just now."""
    unread = {unreadable.path for unreadable in found.unreadable}
    newest = max((each.step for each in found.checkpoints), default=-1)
    return newest >= known.step or known.path in unread or known.path.parent in unread


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
