"""Trainers' logs: reading a part, and the last lines of one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 20
TAIL_BYTES = 4096
DEFAULT_READ_BYTES = 65_536
MAX_READ_BYTES = 4 * 1024 * 1024


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
    """Bytes of a log, and the offset behind them."""

    data: bytes
    next_offset: int


def read_part(path: Path, *, offset: int, max_bytes: int) -> LogPart:
    """Read at most `max_bytes` (0: 65,536) from `offset` (negative: from the end).

    An offset behind the end gives nothing. Raise OSError if there is no such log.
    """
    wanted = min(max_bytes or DEFAULT_READ_BYTES, MAX_READ_BYTES)
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        stream.seek(start)
        data = stream.read(wanted)
    return LogPart(data=data, next_offset=start + len(data))
