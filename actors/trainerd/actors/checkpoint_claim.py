"""At most one process saves in a directory of checkpoints, by a lock that the kernel gives back."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


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
