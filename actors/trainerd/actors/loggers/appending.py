"""Files that only grow, by whole lines."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainerd.actors.errors import TrainingError

_BLOCK_BYTES = 65536


class AppendedFile:
    """A text file to which whole lines are appended; one process writes it at a time.

    A line is handed to the operating system at once, so that a killed process loses none, and
    synced to disk by `close`, or at once with `sync`. What a crash or a full disk has left of a
    line is removed when the file is opened and before the next line is written: every line in the
    file is whole. Directories on the way are made. `header` is the first line of a new file;
    a file that begins otherwise is refused with `TrainingError`. I/O raises OSError.
    """

    def __init__(self, path: Path, *, header: str = "", sync: bool = False) -> None:
        self._path, self._sync = path, sync
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            # A device or a pipe has no end to repair.
            self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            self._end = self._whole_lines() if self._regular else 0
            self._torn = self._regular and self._end < os.fstat(self._descriptor).st_size
            if header and self._end == 0:
                self.append(header)
            elif header:
                self._must_begin_with(header)
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, line: str) -> None:
        """Append `line`, which has no line break in it, and one after it."""
        if self._descriptor < 0:
            raise ValueError(f"{self._path} is closed")
        if self._torn:
            os.ftruncate(self._descriptor, self._end)
            self._torn = False
        data = f"{line}\n".encode()
        # If a write raises, part of the line may be in the file.
        self._torn = self._regular
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, data[written:])
        self._torn = False
        self._end += written
        if self._sync and self._regular:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Sync and close; again: does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            if self._torn:
                os.ftruncate(descriptor, self._end)
            if self._regular:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _whole_lines(self) -> int:
        """The size up to and with the last line break."""
        end = os.fstat(self._descriptor).st_size
        while end > 0:
            begin = max(0, end - _BLOCK_BYTES)
            found = os.pread(self._descriptor, end - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return 0

    def _must_begin_with(self, header: str) -> None:
        expected = f"{header}\n".encode()
        came = os.pread(self._descriptor, len(expected), 0)
        if came != expected:
            raise TrainingError(
                f'{self._path} must begin with "{header}", got '
                f'"{came.decode(errors="replace").rstrip()}"',
                suggestion="name a file that is not there yet",
            )
