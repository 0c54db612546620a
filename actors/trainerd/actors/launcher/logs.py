"""Trainers' logs: reading a part, and the last lines of one.

A log keeps its offsets for ever. What is gone of a long one is its beginning: a hole in the file,
or, where the file system has no holes, bytes before the file's first, counted in a file beside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 20
TAIL_BYTES = 4096
DEFAULT_READ_BYTES = 65_536
MAX_READ_BYTES = 4 * 1024 * 1024
_BASE = ".base"


def tail(path: Path) -> str:
    """The last lines of a log: at most `TAIL_LINES`, at most `TAIL_BYTES`; empty: no log."""
    try:
        data = read_part(path, offset=-TAIL_BYTES, max_bytes=TAIL_BYTES).data
    except OSError:
        return ""
    text = data.decode("utf-8", errors="replace")
    lines = text.splitlines()[-TAIL_LINES:]
    # A replacement character is longer than the byte it stands for.
    while lines and len("\n".join(lines).encode()) > TAIL_BYTES:
        lines[0] = lines[0][TAIL_BYTES // 8 :]
        if not lines[0]:
            lines.pop(0)
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """Bytes of a log, their offset, and the offset behind them."""

    data: bytes
    offset: int
    next_offset: int


def read_part(path: Path, *, offset: int, max_bytes: int) -> LogPart:
    """Read at most `max_bytes` (0: 65,536) from `offset` (negative: from the end).

    An offset behind the end gives nothing, one of what is gone what comes after that. Raise OSError
    if there is no such log.
    """
    wanted = min(max_bytes or DEFAULT_READ_BYTES, MAX_READ_BYTES)
    with path.open("rb") as stream:
        base = read_base(path)
        size = os.fstat(stream.fileno()).st_size
        end = base + size
        start = max(base, end + offset) if offset < 0 else min(max(base, offset), end)
        start = base + _first_byte(stream.fileno(), start - base, size)
        stream.seek(start - base)
        data = stream.read(wanted)
    return LogPart(data=data, offset=start, next_offset=start + len(data))


def read_base(path: Path) -> int:
    """The offset of the first byte of a log's file."""
    try:
        return int(path.with_name(path.name + _BASE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def write_base(path: Path, base: int) -> None:
    """Say so. Raise OSError."""
    beside = path.with_name(path.name + _BASE)
    scratch = beside.with_name(beside.name + ".new")
    scratch.write_text(f"{base}\n", encoding="ascii")
    os.replace(scratch, beside)


def remove_log(path: Path) -> None:
    """Remove a log. Raise OSError."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + _BASE).unlink(missing_ok=True)


def _first_byte(descriptor: int, start: int, size: int) -> int:
    """Where the first byte at or behind `start` is that was not cut out."""
    if start >= size:
        return start
    try:
        return min(os.lseek(descriptor, start, os.SEEK_DATA), size)
    except OSError:
        # Nothing but a hole is left.
        return size
