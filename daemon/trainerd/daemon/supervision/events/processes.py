"""What befalls a trainer's process and its link, as launcher, daemon and clock see it."""

from __future__ import annotations

from dataclasses import dataclass

from trainerd.daemon.supervision.activities import ActivityTime
from trainerd.daemon.supervision.faults import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSpawned:
    """The launcher started a trainer process; `warm`: it was forked from a standby."""

    run: str
    incarnation: int
    pid: int
    warm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSpawnFailed:
    """The launcher could not start one; `permanent`: another try is useless.

    `devices_busy`: another process holds the devices.
    """

    run: str
    incarnation: int
    message: str
    permanent: bool = False
    devices_busy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerAttached:
    """A trainer attached; its whole situation. `awaits`: the question it waits with, or 0.

    `times`: how its process has spent its time so far.
    """

    run: str
    incarnation: int
    phase: Phase | None = None
    step: int = 0
    dropped_reports: int = 0
    awaits: int = 0
    times: tuple[ActivityTime, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerDetached:
    """A trainer's stream ended; the process may live."""

    run: str
    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerExited:
    """A trainer process ended: `exit_code`, or -1 and the `signal`.

    `times`: how it spent its time, as far as it is known. `drained`: while its host was, so that it
    was asked to save and go.
    """

    run: str
    incarnation: int
    exit_code: int
    signal: int = 0
    killed_by_launcher: bool = False
    log_tail: str = ""
    stacks: str = ""
    times: tuple[ActivityTime, ...] = ()
    drained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """A timer that the supervisor started has run out."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineExpired:
    """The monitor saw no progress for longer than the phase may take."""

    run: str
    incarnation: int
    phase: Phase | None
    deadline_s: float
    waited_s: float
