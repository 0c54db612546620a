"""What befalls hosts: their daemons, their launchers. `host` empty: the daemon's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted:
    """A daemon began to read this journal; its links are not up yet.

    `host`: its own host's name in the cluster; empty: there is no cluster.
    """

    version: str
    pid: int
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonEnded:
    """The daemon ends in order: one that starts without this behind the last was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRecovered:
    """The journal can be written again; `refused` events could not be, for `duration_s` seconds."""

    refused: int
    duration_s: float
    problem: str


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
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherLost:
    """The link to the launcher is lost."""

    reason: str
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesRemoved:
    """The launcher has removed a run's files, or only what of them lay in memory."""

    run: str
    memory_only: bool = False
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyPrepared:
    """A host that the gang of `incarnation` is to grow by has a standby; or why there is none."""

    run: str
    incarnation: int
    problem: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostJoined:
    """A host's daemon is linked. Its launcher is not yet."""

    host: str
    address: str = ""
    software: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLost:
    """The link to a host's daemon is lost, and with it those to its launcher and its trainers."""

    host: str
    reason: str
