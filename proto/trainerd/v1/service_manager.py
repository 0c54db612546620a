"""What a process says to systemd, which may have started it: sd_notify(3) and the journal.

Each function does nothing, or says so, where systemd did not start this process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""The journal's priority of a log level."""


def sd_notify(state: str) -> bool:
    """Send one state string; False when not started by systemd. Raise OSError if it is gone."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + path[1:] if path[0] == "@" else path)
        sock.sendall(state.encode())
    return True


def is_listening(environment: Mapping[str, str]) -> bool:
    """Whether systemd wants to be told anything."""
    return bool(environment.get("NOTIFY_SOCKET"))


def watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which systemd wants a sign of life of this process; None: it wants none."""
    period_us = environment.get("WATCHDOG_USEC", "")
    owner = environment.get("WATCHDOG_PID", "") or str(pid)
    if not period_us.isdecimal() or int(period_us) == 0 or owner != str(pid):
        return None
    return int(period_us) / 1e6


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether what is written to this descriptor goes to systemd's journal."""
    named = environment.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


def journal_prefix(level: str) -> str:
    """What a line begins with to have its priority in the journal; sd-daemon(3)."""
    return f"<{PRIORITIES.get(level, 6)}>"
