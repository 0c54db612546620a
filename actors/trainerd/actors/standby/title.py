"""The command line that `ps` shows, written over in place: a fork has its parent's."""

from __future__ import annotations

import ctypes
from pathlib import Path

_ARG_START, _ARG_END = 45, 46
"""Of /proc/self/stat (fields 48 and 49), counted behind the command's name."""


def retitle(arguments: list[str]) -> None:
    """Show `arguments` as this process's command line, cut to the room there is."""
    start, end = _extent()
    title = b"\0".join(argument.encode() for argument in arguments)
    room = end - start
    # The last byte stays NUL: any other makes the kernel read on, into the environment.
    ctypes.memmove(start, title[: room - 1].ljust(room, b"\0"), room)


def _extent() -> tuple[int, int]:
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[_ARG_START]), int(fields[_ARG_END])
