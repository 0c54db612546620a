"""Whether files are still those that were read: by modification time, size and inode."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TypeAlias

Stamp: TypeAlias = tuple[int, int, int]

LIMIT = 20_000
"""Most files that are watched; a program that reads more starts cold."""


def stamp(path: str) -> Stamp | None:
    """The file's stamp; None: there is no such file, which is a state to compare with too."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def stamps(paths: Iterable[str]) -> dict[str, Stamp | None]:
    """The stamps of files."""
    return {path: stamp(path) for path in paths}


def changed(before: Mapping[str, Stamp | None]) -> str | None:
    """The first path that is no longer what it was; None: all are."""
    for path, then in before.items():
        now = stamp(path)
        if now != (None if then is None else tuple(then)):
            return path
    return None
