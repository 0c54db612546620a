"""What a run's time goes to, as its trainer and its daemon see it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Activity(enum.Enum):
    """The values are the names of `trainerd.v1.Activity`, which explains each."""

    PRODUCTIVE = "productive"
    RECOMPUTED = "recomputed"
    INIT = "init"
    COMPILE = "compile"
    RESTORE = "restore"
    EVALUATE = "evaluate"
    CHECKPOINT_BLOCKED = "checkpoint_blocked"
    SNAPSHOT = "snapshot"
    DATA_WAIT = "data_wait"
    DECISION_WAIT = "decision_wait"
    RESTART = "restart"
    DRAIN = "drain"
    PAUSED = "paused"
    QUEUED = "queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityTime:
    """Seconds that went to one activity."""

    activity: Activity
    seconds: float
