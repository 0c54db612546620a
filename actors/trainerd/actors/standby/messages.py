"""What a launcher and its standby say to each other: one JSON object a packet.

The launcher asks; the standby answers each request once. Descriptors travel beside a `Fork`, in
the order of `Fork.DESCRIPTORS`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeAlias

MAX_BYTES = 128 * 1024
"""Longest packet. The kernel's default bound for a Unix socket is 208 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """First and only first: import what the run imports. Answered by `Ready` or `Unfit`."""

    path: tuple[str, ...]
    """What the run puts before `sys.path`."""
    module: str
    """The module of the run's entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Fork a trainer. Answered by `Forked` or `Refused`."""

    DESCRIPTORS: ClassVar = ("assignment", "log", "lock", "consent")

    run: str
    incarnation: int
    launcher_pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Everything is imported."""

    resident_bytes: int
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """No trainer can be forked for this program; the standby ends."""

    reason: str
    lasting: bool
    """Whether only another program can change it: one whose `files` are others."""
    files: Mapping[str, tuple[int, int, int] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """A trainer exists: its parent is the launcher, it leads its process group, and it waits for
    the launcher's consent."""

    pid: int
    resident_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What was imported is no longer what a new process would import; the standby ends."""

    reason: str


Message: TypeAlias = Prepare | Fork | Ready | Unfit | Forked | Refused

_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (Prepare, Fork, Ready, Unfit, Forked, Refused)
}


def encoded(message: Message) -> bytes:
    """The packet of a message."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()


def decoded(data: bytes) -> Message:
    """The message of a packet. Raise ValueError for anything else."""
    try:
        told = json.loads(data)
        made: Message = _KINDS[told.pop("kind")](**told)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a message between launcher and standby: {data[:80]!r}") from error
    return made
