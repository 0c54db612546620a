"""`[programs]`: which programs a run may bring to this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

BELOW = "/*"
"""How an entry ends that stands for everything below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramsSection:
    """The operator's allow-list. A list that is not given allows everything that the launcher's
    user may do; one that is given allows what it names, and an empty one nothing."""

    pythons: tuple[str, ...] | None = None
    """Interpreters by path, or `/dir/*` for all below. The launcher's own is always allowed."""
    paths: tuple[str, ...] | None = None
    """Directories below which `trainer.path` and `trainer.workdir` must be."""
    entries: tuple[str, ...] | None = None
    """Modules of `entry`: `package.module`, or `package.*` for it and all in it."""
    env: tuple[str, ...] | None = None
    """Names of `trainer.env`, or `PREFIX_*`."""
    directories: tuple[str, ...] | None = None
    """Directories below which checkpoints may be saved and exported, beside the launcher's own."""


def programs_problems(section: ProgramsSection) -> Iterator[str]:
    """What is impossible in the lists."""
    for name in ("pythons", "paths", "directories"):
        for entry in getattr(section, name) or ():
            if not os.path.isabs(entry) or "*" in entry.removesuffix(BELOW):
                yield f'programs.{name} must have absolute paths, or "/dir/*", got {entry!r}'
    for entry in section.entries or ():
        parts = entry.removesuffix(".*").split(".")
        if not all(part.isidentifier() for part in parts):
            yield f'programs.entries must have "package.module" or "package.*", got {entry!r}'
    for entry in section.env or ():
        if not entry.removesuffix("*") or "*" in entry[:-1] or "=" in entry:
            yield f'programs.env must have names, or "PREFIX_*", got {entry!r}'
