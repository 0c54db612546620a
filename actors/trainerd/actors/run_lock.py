"""At most one trainer of a run at any time, by a lock that the kernel gives back."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

_RETRY_S = 0.02


class RunBusy(Exception):
    """Another process trains this run."""


class RunLock:
    """Holds the lock of a run's directory until `close`, or until this process is gone.

    A process that it forks without an exec holds it too.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @staticmethod
    def take(
        directory: Path,
        *,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> RunLock:
        """Make the directory if need be and lock it, for this user only.

        What a trainer before this one left behind may hold it for a moment yet: tried again for
        `patience_s` seconds. Raises `RunBusy` then, and OSError where the directory cannot be had
        or may be written to by somebody else.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise PermissionError(
                    f"{directory} must belong to user {os.geteuid()} alone, it is of user "
                    f"{found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}"
                )
            deadline_s = clock() + patience_s
            while not _locked(descriptor):
                if clock() >= deadline_s:
                    raise RunBusy(f"another process holds {directory}: it trains this run")
                sleep(_RETRY_S)
        except BaseException:
            os.close(descriptor)
            raise
        return RunLock(descriptor)

    def close(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
