"""What reading a run's checkpoints from the disk has shown."""

from __future__ import annotations

from dataclasses import dataclass

DAMAGED = "digest_mismatch"
"""The reason of one that is not what was saved; any other says why it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedCheckpoint:
    """A checkpoint that was durable and is damaged, or cannot be read just now, and why.

    `step` -1: a whole directory of them.
    """

    step: int
    path: str
    reason: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointsVerified:
    """A run's durable checkpoints were read from the disk and compared with what was saved.

    `scrub`: nobody had asked for it. `durable_step`: of the newest that is `sound`; -1: none is.
    """

    run: str
    scrub: bool = False
    sound: int = 0
    rejected: tuple[RejectedCheckpoint, ...] = ()
    durable_step: int = -1
    durable_path: str = ""
    duration_s: float = 0.0
