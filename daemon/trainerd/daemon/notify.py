"""Telling a parent with a pipe that the daemon is ready."""

from __future__ import annotations

import os


def tell_parent(fd: int, line: str) -> None:
    """Write one line to a pipe inherited from the parent, and close it."""
    with os.fdopen(fd, "w") as pipe:
        pipe.write(line + "\n")
