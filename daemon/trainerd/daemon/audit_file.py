"""`audit.jsonl`: lines that are only ever appended, in a bounded number of files."""

from __future__ import annotations

import os
from pathlib import Path

from trainerd.daemon.api_config import AuditConfig


class AuditFile:
    """Appends lines; the file that is full becomes `.1`, and so on to the oldest, which goes.

    What is written is with the kernel: it survives the daemon, not the host's loss of power.
    """

    def __init__(self, path: Path, config: AuditConfig) -> None:
        self._path = path
        self._config = config
        self._descriptor = -1
        self._size = 0

    def append(self, line: bytes) -> None:
        """Write one line, whole or not at all. Raise OSError if it cannot be written."""
        if self._descriptor < 0:
            self._open()
        if self._size and self._size + len(line) > self._config.max_bytes:
            self._rotate()
        written = os.write(self._descriptor, line)
        if written < len(line):
            # The disk is full: half a line would spoil the next one.
            os.ftruncate(self._descriptor, self._size)
            raise OSError(28, "only a part of the line could be written", str(self._path))
        self._size += written

    def close(self) -> None:
        """Let go of the file; the next line opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._config.files - 1, 0, -1):
            before = self._numbered(number - 1)
            if before.exists():
                os.replace(before, self._numbered(number))
        if self._config.files == 1:
            self._path.unlink(missing_ok=True)
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path
