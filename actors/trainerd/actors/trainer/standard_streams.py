"""Standard output and error that ends nobody: on a full disk what is printed there is lost.

They are files on a disk that may be as full as that of the checkpoints. Whoever prints, in whatever
thread, would otherwise get an exception for it.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO


def forgive() -> None:
    """Replace this process's standard output and error."""
    sys.stdout, sys.stderr = _forgiving(sys.stdout), _forgiving(sys.stderr)


def _forgiving(stream: TextIO) -> TextIO:
    stream.flush()
    lossy = _Lossy(stream.fileno())
    # Python buffers by the line, by the block, or not at all, as its environment says.
    at_once = isinstance(stream, io.TextIOWrapper) and stream.write_through
    buffer: Any = lossy if at_once else io.BufferedWriter(lossy)
    return io.TextIOWrapper(
        buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=bool(stream.line_buffering),
        write_through=at_once,
    )


class _Lossy(io.RawIOBase):
    """Writes to a descriptor; what that refuses counts as written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        try:
            return os.write(self._descriptor, view)
        except OSError:
            return view.nbytes
