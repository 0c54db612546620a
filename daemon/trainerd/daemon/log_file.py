"""Where the daemon's log goes. A log that cannot be written must not end the daemon."""

from __future__ import annotations

import os


class LogFile:
    """Writes lines to a descriptor; lines that it does not take are counted, and told later.

    The disk may be full, or the reader gone: nothing that the daemon does depends on its log.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = 0

    def write(self, text: str) -> int:
        """Write text as it is; never raises for what the descriptor does."""
        told = f"{self._lost} log lines before this one could not be written\n"
        try:
            _write_all(self._descriptor, (told if self._lost else "") + text)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def _write_all(descriptor: int, text: str) -> None:
    data = text.encode(errors="backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]
