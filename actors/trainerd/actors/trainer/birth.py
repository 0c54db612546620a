"""The first moments of a trainer process. Imports next to nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_launcher() -> None:
    """Ask the kernel for SIGKILL when the launcher dies. Raise OSError if it refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")


def launcher_lives(launcher_pid: int) -> bool:
    """Whether the launcher is this process's parent: it may have died before we asked to follow."""
    return launcher_pid in (0, os.getppid())


def read_assignment() -> bytes:
    """Read standard input to its end and put /dev/null in its place.

    The user's code finds neither the assignment nor the descriptors the launcher left open: the
    devices' lock stays with this process and does not go to the programs it starts.
    """
    data = sys.stdin.buffer.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone
                os.set_inheritable(int(name), False)
    return data
