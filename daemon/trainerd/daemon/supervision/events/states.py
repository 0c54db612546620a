"""The states of a run, and why a trainer finished."""

from __future__ import annotations

import enum


class RunState(enum.Enum):
    """The life of a run; which may follow which is in `state.EDGES`."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    RECOVERING = "recovering"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"


class FinishReason(enum.Enum):
    """Why a trainer finished."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    PREEMPTED = "preempted"
    DECIDED = "decided"
