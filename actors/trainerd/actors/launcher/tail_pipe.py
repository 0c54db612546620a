"""The end of what a child writes: the rest is read and forgotten, so that it never blocks."""

from __future__ import annotations

import asyncio
import os

LIMIT_BYTES = 16 * 1024


class TailPipe:
    """A pipe whose writing end goes to a child; keeps the last 16 KiB."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reading, False)
        self._tail = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reading, self._read)

    def close_writing(self) -> None:
        """The child has its own copy."""
        os.close(self.writing)

    def close(self) -> str:
        """Stop reading; return the end of what was written."""
        self._read()
        self._loop.remove_reader(self._reading)
        os.close(self._reading)
        return self._tail.decode("utf-8", errors="replace")

    def _read(self) -> None:
        try:
            while data := os.read(self._reading, 65_536):
                self._tail += data
                del self._tail[:-LIMIT_BYTES]
        except BlockingIOError:
            return
        self._loop.remove_reader(self._reading)
