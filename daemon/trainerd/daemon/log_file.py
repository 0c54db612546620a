"""Where the daemon's log goes. A log that cannot be written must not end the daemon."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LIMIT_BYTES = 64 * 1024 * 1024
"""Bytes of a log file before it begins anew; the file before it is kept as `….1`."""


class LogFile:
    """Writes lines to a descriptor, or to a file; those it cannot write are counted and told later.

    The disk may be full, or the reader gone: nothing that the daemon does depends on its log.
    """

    def __init__(self, descriptor: int, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._given = descriptor
        self._limit_bytes = limit_bytes
        self._path: Path | None = None
        self._opened: int | None = None
        self._lost = 0

    def use(self, path: Path | None) -> None:
        """Write to this file from the next line on; None: to the descriptor.

        The file that is open is closed, the same one too: it may have been moved away.
        """
        if self._opened is not None:
            os.close(self._opened)
        self._path, self._opened = path, None

    def write(self, text: str) -> int:
        """Write text as it is; never raises for what the place does."""
        told = f"{self._lost} log lines before this one could not be written\n"
        try:
            _write_all(self._descriptor(), (told if self._lost else "") + text)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0
        # Without a place for the older lines the file grows on.
        with contextlib.suppress(OSError):
            self._begin_anew_if_full()
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def _descriptor(self) -> int:
        if self._path is None:
            return self._given
        if self._opened is None:
            self._opened = open_log(self._path)
        return self._opened

    def _begin_anew_if_full(self) -> None:
        path, opened = self._path, self._opened
        if path is None or opened is None or os.fstat(opened).st_size <= self._limit_bytes:
            return
        path.replace(f"{path}.1")
        self.use(path)


def open_log(path: Path) -> int:
    """Open a log file to append to it, for its owner and its group. Raise OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _write_all(descriptor: int, text: str) -> None:
    data = text.encode(errors="backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]
