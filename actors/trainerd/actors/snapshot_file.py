"""One of a run's two snapshot files: reserved, mapped into memory, written and read."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainerd.actors.checksum import checksum
from trainerd.actors.snapshot_format import (
    HEADER_AT,
    MARK_AT,
    PREFIX_BYTES,
    Layout,
    Prefix,
    SnapshotDamaged,
    pack_header,
    unpack_header,
)

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Reserve = Callable[[int, int], None]
"""Takes a file's descriptor and its length in bytes; raises OSError where there is no room."""


def reserve(descriptor: int, length_bytes: int) -> None:
    """Have the kernel set memory aside for the whole file: writing cannot fail later."""
    os.posix_fallocate(descriptor, 0, length_bytes)


class SnapshotFile:
    """A file that holds a snapshot or nothing. One writer at a time.

    What `view` returned is valid until `close`, and changes with the next snapshot.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None

    def taken_bytes(self) -> int:
        """Memory that the file takes by now."""
        try:
            return os.stat(self.path, follow_symlinks=False).st_blocks * 512
        except OSError:
            return 0

    def read(self) -> tuple[Prefix, Layout, Mapping[str, Any]]:
        """What a whole file says of its snapshot; the data is not looked at.

        Raises `SnapshotDamaged`, or OSError where there is no such file.
        """
        descriptor = self._open(os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            prefix = Prefix.read(os.pread(descriptor, PREFIX_BYTES, 0), size)
            header = os.pread(descriptor, prefix.header_bytes, HEADER_AT)
        finally:
            os.close(descriptor)
        return prefix, *unpack_header(header, prefix)

    @contextlib.contextmanager
    def data(self, prefix: Prefix) -> Iterator[Bytes]:
        """The whole file, once its data is verified. Raises `SnapshotDamaged`, OSError.

        Not to be used after the block.
        """
        descriptor = self._open(os.O_RDONLY)
        try:
            if os.fstat(descriptor).st_size != prefix.file_bytes:
                raise SnapshotDamaged("its length has changed")
            mapped = mmap.mmap(descriptor, prefix.file_bytes, prot=mmap.PROT_READ, flags=_SHARED)
        finally:
            os.close(descriptor)
        content = np.frombuffer(mapped, np.uint8)
        if checksum(content[prefix.data_at :]) != prefix.data_digest:
            raise SnapshotDamaged("its data is damaged")
        yield content

    def reserve(self, layout: Layout, take: Reserve = reserve) -> None:
        """Make room for snapshots of this layout; one that fits into it stays. Raises OSError."""
        self.close()
        descriptor = self._open(os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(descriptor).st_size != layout.file_bytes:
                os.ftruncate(descriptor, 0)
                os.ftruncate(descriptor, layout.file_bytes)
            take(descriptor, layout.file_bytes)
            self._map = mmap.mmap(descriptor, layout.file_bytes, flags=_SHARED)
        finally:
            os.close(descriptor)

    def begin(self) -> Bytes:
        """Destroy the snapshot there is; return the file's bytes, to be written to."""
        mapped = self._mapped()
        mapped[MARK_AT:PREFIX_BYTES] = bytes(PREFIX_BYTES - MARK_AT)
        return np.frombuffer(mapped, np.uint8)

    def commit(self, step: int, layout: Layout, meta: Mapping[str, Any]) -> None:
        """Make what was written a snapshot. Raises ValueError where `meta` is too large."""
        mapped = self._mapped()
        header = pack_header(layout, meta)
        mapped[HEADER_AT : HEADER_AT + len(header)] = header
        prefix = Prefix(
            step=step,
            header_bytes=len(header),
            data_at=layout.data_at,
            file_bytes=layout.file_bytes,
            header_digest=checksum(header),
            data_digest=checksum(np.frombuffer(mapped, np.uint8)[layout.data_at :]),
        ).pack()
        mapped[:MARK_AT] = prefix[:MARK_AT]
        mapped[MARK_AT:PREFIX_BYTES] = prefix[MARK_AT:]

    def discard(self) -> None:
        """Let the file hold no snapshot. Raises OSError."""
        try:
            descriptor = self._open(os.O_WRONLY)
        except FileNotFoundError:
            return
        try:
            os.pwrite(descriptor, bytes(PREFIX_BYTES - MARK_AT), MARK_AT)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Give the memory back. Raises OSError."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Forget the mapping; arrays that still look at it keep it alive."""
        self._map = None

    def _mapped(self) -> mmap.mmap:
        assert self._map is not None, "a file is written to only once it is reserved"
        return self._map

    def _open(self, flags: int) -> int:
        return os.open(self.path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


# Its pages are found at once, not one by one at the first snapshot.
_SHARED = mmap.MAP_SHARED | mmap.MAP_POPULATE
