"""What befalls the host: its daemon, its launcher."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted:
    """A daemon began to read this journal; its links are not up yet."""

    version: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTrainer:
    """A trainer process that lives."""

    run: str
    incarnation: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherAttached:
    """The launcher is linked; its whole situation."""

    instance: str
    pid: int
    trainers: tuple[LiveTrainer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherLost:
    """The link to the launcher is lost."""

    reason: str
