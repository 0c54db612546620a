"""Which files a program reads while it is imported: if one changes, a new process would differ."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NOT_FILES = ("/proc/", "/sys/", "/dev/")


class Openings:
    """Hears of every file that Python opens, and keeps those it reads while asked to.

    An audit hook cannot be taken away again; when nobody asks, it costs a comparison.
    """

    def __init__(self) -> None:
        self._paths: set[str] | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def recorded(self) -> Iterator[set[str]]:
        """Collect absolute paths, whether or not there was such a file."""
        paths: set[str] = set()
        self._paths = paths
        try:
            yield paths
        finally:
            self._paths = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._paths is None or event != "open":
            return
        path, _, flags = arguments
        if isinstance(path, int) or (flags or 0) & os.O_ACCMODE != os.O_RDONLY:
            return
        name = os.path.abspath(os.fsdecode(path))
        # Compiled code is made from the source, which is looked at itself.
        if not name.startswith(_NOT_FILES) and not name.endswith(".pyc"):
            self._paths.add(name)
