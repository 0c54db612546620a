"""Damaged checkpoints: renamed so that nothing takes them for one, kept, with the reason inside."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainerd.actors.checkpoint_files import DAMAGED, set_aside

WHY = "trainerd.damaged"
_NAME = re.compile(rf"([0-9]+){re.escape(DAMAGED)}(\.[0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What is wrong with a checkpoint: a reason of the fault matrix, in words, and since when
    it is known (ISO 8601, UTC; empty: not known)."""

    reason: str
    problem: str
    found_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A damaged checkpoint that is kept."""

    step: int
    path: Path
    damage: Damage


def mark(path: Path, *, reason: str, problem: str) -> Path:
    """Set the checkpoint at `path` aside, with the reason in a file of it; return where it is.

    Raises OSError if it cannot be renamed. A reason that cannot be written is left out.
    """
    aside = set_aside(path)
    damage = Damage(
        reason=reason, problem=problem, found_at=datetime.now(UTC).isoformat(timespec="seconds")
    )
    try:
        (aside / WHY).write_text(json.dumps(asdict(damage)) + "\n")
    except OSError:
        # What matters is done; whoever marks it has said the reason already.
        return aside
    return aside


def damaged(directory: Path) -> list[Damaged]:
    """The damaged checkpoints of a directory, newest first; none if it does not exist."""
    try:
        names: Iterable[str] = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [
        Damaged(step=int(match[1]), path=directory / name, damage=_why(directory / name))
        for name in sorted(names)
        if (match := _NAME.fullmatch(name)) is not None
    ]
    return sorted(found, key=lambda each: each.step, reverse=True)


def _why(path: Path) -> Damage:
    try:
        values: dict[str, Any] = json.loads((path / WHY).read_bytes())
        return Damage(
            reason=str(values["reason"]),
            problem=str(values["problem"]),
            found_at=str(values["found_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Damage(reason="", problem="nobody has written down why", found_at="")
