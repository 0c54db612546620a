"""At most one process saves in a directory of checkpoints, by a lock that the kernel gives back.

A run on several hosts has a fence instead: a frozen process of an earlier incarnation, whom nobody
can reach, might hold a lock for ever.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

from trainerd.actors import fence

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


class Holdable(Protocol):
    """The right to save in a directory."""

    def hold(self) -> None:
        """Have it, or raise OSError."""

    def close(self) -> None:
        """Give it back."""


def claimed(directory: Path, incarnation: int) -> Holdable:
    """The right to save in `directory`, of a run on several hosts if `incarnation` is above 0."""
    return Fenced(directory, incarnation) if incarnation else Claim(directory)


class Fenced:
    """Holds as long as there is no newer incarnation. Implements `Holdable`."""

    def __init__(self, directory: Path, incarnation: int) -> None:
        self._directory, self._incarnation = directory, incarnation

    def hold(self) -> None:
        """Raise `Superseded` if there is a newer one."""
        fence.refuse_superseded(self._directory, self._incarnation)

    def close(self) -> None:
        """Nothing is held."""


class Claim:
    """Holds a directory's lock from the first `hold` until `close`. Owned by one thread at a time.

    A directory that was replaced by another since is claimed anew.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1

    def hold(self) -> None:
        """Claim the directory, which exists. Raises OSError, EBUSY if another process holds it.

        A file system without locks is taken as it is.
        """
        if self._held():
            return
        self.close()
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                os.close(descriptor)
                raise OSError(
                    errno.EBUSY, "another process saves its checkpoints here", str(self._directory)
                ) from error
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        self._descriptor = descriptor

    def close(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _held(self) -> bool:
        if self._descriptor < 0:
            return False
        return os.path.samestat(os.fstat(self._descriptor), os.stat(self._directory))
