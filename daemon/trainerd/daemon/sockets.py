"""The daemon's Unix sockets: their directories, their modes, and who may take them over."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
from pathlib import Path


class OccupiedError(Exception):
    """Another process has what this daemon needs; the message names it."""


def take_state_directory(path: Path) -> int:
    """Create the state directory (0700) and lock it for this process; return the lock's fd.

    The kernel releases the lock when the process dies, however it dies. Raise `OccupiedError`.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise OccupiedError(
            f"another daemon (pid {owner}) uses the state directory {path}"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def prepare_socket(path: Path, *, mode: int, group: str = "") -> str:
    """Make the socket's directory and remove a dead socket; return the address to serve.

    A directory that is made here is given to `group`, if one is named. A socket that somebody
    still answers raises `OccupiedError`: it is never taken away, and neither is anything that is
    not a socket. Raise `OSError` if there is no such group, or it is not this user's to give.
    """
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=mode)
        give_to_group(path.parent, group)
    if path.exists():
        if not path.is_socket():
            raise OccupiedError(f"{path} is not a socket: move it away, or choose another path")
        if answers(path):
            raise OccupiedError(f"another process answers at unix:{path}")
        path.unlink()
    return f"unix:{path}"


def give_to_group(path: Path, group: str) -> None:
    """Make a group the file's; "": leave it. Raise `OSError` that says what to do."""
    if not group:
        return
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        raise OSError(f"no group {group!r} on this host, for {path}: create it") from None
    if path.stat().st_gid == number:
        return
    try:
        os.chown(path, -1, number)
    except OSError as error:
        raise OSError(
            f"{path} cannot be given to the group {group!r}: {error.strerror}; make the daemon's "
            f"user a member of it"
        ) from error


def answers(path: Path) -> bool:
    """Whether somebody listens on this Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
