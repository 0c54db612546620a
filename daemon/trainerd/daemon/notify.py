"""Telling whoever started the daemon that it is ready: systemd, or a parent with a pipe."""

from __future__ import annotations

import os
import socket


def sd_notify(state: str) -> bool:
    """Send one state string to systemd (sd_notify(3)); False when not started by it."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + path[1:] if path[0] == "@" else path)
        sock.sendall(state.encode())
    return True


def tell_parent(fd: int, line: str) -> None:
    """Write one line to a pipe inherited from the parent, and close it."""
    with os.fdopen(fd, "w") as pipe:
        pipe.write(line + "\n")
