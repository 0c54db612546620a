"""What a run keeps on its host so that the next process begins sooner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.head_start import HeadStart


def _nobody(_step: int, _every: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Where snapshots and compiled steps are kept; None: they are not.

    The process holds the run's lock on `snapshot_directory`. Snapshots take `snapshot_bytes`
    together at most. `crash_every_s`: mean seconds between the run's crashes, 0: there was none.
    `told(step, every)` hears, from the loop's thread, of the newest snapshot that is whole (-1:
    none) and of the updates between two of them at present (0: none are taken).
    `head_start` is its owner's to close. `known`: the newest durable checkpoint that the run is
    known to have; None: nobody knows of one. `reached_step`: the most updates that earlier
    processes of it are known to have reached.
    """

    snapshot_directory: Path | None = None
    snapshot_bytes: int = 0
    executable_directory: Path | None = None
    head_start: HeadStart | None = None
    crash_every_s: float = 0.0
    known: Checkpoint | None = None
    reached_step: int = 0
    told: Callable[[int, int], None] = _nobody
