"""Digests of files, several in one reading, at a cost that leaves the interpreter to others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import xxhash

_CHUNK_BYTES = 1 << 20


class Hasher(Protocol):
    """What is used of the hashers of hashlib and xxhash; both release the interpreter."""

    def update(self, content: memoryview, /) -> None:
        """Take more of the content."""

    def hexdigest(self) -> str:
        """The digest so far, in hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """A kind of digest."""

    name: str
    begin: Callable[[], Hasher]


SHA256 = Digest(name="SHA-256", begin=hashlib.sha256)
XXH3 = Digest(name="XXH3-128", begin=xxhash.xxh3_128)


def digests(
    path: Path, *kinds: Digest, sync: bool = False, from_disk: bool = False
) -> tuple[tuple[str, ...], int]:
    """Digests of a file in hexadecimal, one a kind, and its size.

    `sync`: sync it to the disk first. `from_disk`: first let go of what memory holds of it. Raises
    OSError; for a symbolic link too.
    """
    hashers = [kind.begin() for kind in kinds]
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    # A link would be digested as what it points to, which is nobody's promise.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        if sync:
            os.fsync(descriptor)
        if from_disk:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        while count := file.readinto(buffer):
            for hasher in hashers:
                hasher.update(buffer[:count])
        return tuple(hasher.hexdigest() for hasher in hashers), file.tell()
