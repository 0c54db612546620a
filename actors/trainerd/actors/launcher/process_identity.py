"""Telling a process from a later one of the same number, and one that dies from one that lives."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

_ENDING = 0x4 | 0x400
"""PF_EXITING and PF_SIGNALED of Linux's `task_struct.flags`, as /proc shows them."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Names this boot of the machine."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None: there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may hold anything; 22nd field, 20th behind the name.
    return int(stat.rpartition(")")[2].split()[19])


def is_ending(pid: int) -> bool:
    """Whether the kernel is ending a process, all its threads: what is sent to it now did not.

    It closes a process's connections, which others notice, long before it tells the parent.
    """
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return True
    return all(_thread_is_ending(task) for task in tasks)


def _thread_is_ending(task: Path) -> bool:
    try:
        stat = (task / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    # The 9th field, 7th behind the name.
    return bool(int(stat.rpartition(")")[2].split()[6]) & _ENDING)


def kill_if_same(pid: int, started: int, *, timeout_s: float) -> bool:
    """SIGKILL the process `pid` if it started at `started`, and wait until it is gone.

    Return whether there was such a process. Raise TimeoutError if it outlives `timeout_s`.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Read after the pidfd is open: the number can no longer change its meaning.
        if start_ticks(pid) != started:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            raise TimeoutError(f"process {pid} did not end within {timeout_s} s of SIGKILL")
        return True
    finally:
        os.close(descriptor)
