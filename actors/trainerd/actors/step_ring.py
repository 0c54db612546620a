"""Rows on their way to disk, in a file in memory that outlives the process that wrote them.

One thread writes, another one reads; neither waits for the other, and neither takes a lock. A row
is there once its end is marked, so that a process that is killed at any moment leaves whole rows:
whoever opens the file next reads on where the last reader stopped.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

SIZE_BYTES = 4 * 1024 * 1024
MAX_ROW_BYTES = 64 * 1024

_MAGIC = b"tdrows1\0"
_HEADER_BYTES = 64
_NUMBER = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")
_HEAD, _TAIL, _LOST, _TOLD = 8, 16, 24, 32
_TURN = 0xFFFF_FFFF
"""Stands where a row had no room before the end: the next one is at the beginning."""


class StepRing:
    """An open ring. `put` is one thread's, everything else another's."""

    def __init__(self, path: Path, size_bytes: int = SIZE_BYTES) -> None:
        """Open or make it; a file of another kind is made anew. Raise OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            found = os.fstat(descriptor).st_size
            if found != size_bytes:
                os.ftruncate(descriptor, 0)
                # Without a page behind each byte a full memory would be a signal, not an error.
                os.posix_fallocate(descriptor, 0, size_bytes)
            self._map = mmap.mmap(descriptor, size_bytes)
        finally:
            os.close(descriptor)
        self._room = size_bytes - _HEADER_BYTES
        if not self._sound():
            self._map[:_HEADER_BYTES] = _MAGIC + bytes(_HEADER_BYTES - len(_MAGIC))
        self._head = self._number(_HEAD)
        self._tail = self._number(_TAIL)

    @property
    def lost(self) -> int:
        """Rows that found no room, and that `drop` was not told of."""
        return self._number(_LOST) - self._number(_TOLD)

    def put(self, row: bytes) -> bool:
        """Add a row; False, counted: there is no room for it."""
        size = _LENGTH.size + len(row)
        head, room = self._head, self._room
        at = head % room
        left = room - at
        skipped = left if left < size else 0
        if len(row) > MAX_ROW_BYTES or head + skipped + size - self._number(_TAIL) > room:
            _NUMBER.pack_into(self._map, _LOST, self._number(_LOST) + 1)
            return False
        if skipped:
            if left >= _LENGTH.size:
                _LENGTH.pack_into(self._map, _HEADER_BYTES + at, _TURN)
            head, at = head + skipped, 0
        start = _HEADER_BYTES + at
        _LENGTH.pack_into(self._map, start, len(row))
        self._map[start + _LENGTH.size : start + size] = row
        self._head = head + size
        # Last: whoever reads up to here finds all of it.
        _NUMBER.pack_into(self._map, _HEAD, self._head)
        return True

    def take(self, most: int) -> tuple[list[bytes], int]:
        """At most so many rows, oldest first, and the mark behind them; they stay until `drop`."""
        head, tail = self._number(_HEAD), self._tail
        rows: list[bytes] = []
        while tail < head and len(rows) < most:
            at = tail % self._room
            left = self._room - at
            start = _HEADER_BYTES + at
            length = _LENGTH.unpack_from(self._map, start)[0] if left >= _LENGTH.size else _TURN
            if length == _TURN:
                tail += left
                continue
            rows.append(self._map[start + _LENGTH.size : start + _LENGTH.size + length])
            tail += _LENGTH.size + length
        return rows, tail

    def drop(self, mark: int, lost: int = 0) -> None:
        """Forget the rows before a mark of `take`, and so many of `lost`: they are on disk."""
        self._tail = mark
        _NUMBER.pack_into(self._map, _TAIL, mark)
        _NUMBER.pack_into(self._map, _TOLD, self._number(_TOLD) + lost)

    def close(self) -> None:
        """Let go of it; the file stays."""
        self._map.close()

    def _sound(self) -> bool:
        head, tail = self._number(_HEAD), self._number(_TAIL)
        known = self._map[: len(_MAGIC)] == _MAGIC
        return known and tail <= head <= tail + self._room

    def _number(self, place: int) -> int:
        number: int = _NUMBER.unpack_from(self._map, place)[0]
        return number
