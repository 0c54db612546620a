"""Where a run's files lie on this host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from trainerd.v1 import run_pb2

RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


def is_run_id(text: str) -> bool:
    """Whether `text` can be a run's id; anything else could name another directory."""
    return RUN_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """The files of one run below the launcher's state directory."""

    root: Path

    @classmethod
    def of(cls, state_directory: Path, run: str) -> RunFiles:
        """Raise ValueError unless `run` is a run id."""
        if not is_run_id(run):
            raise ValueError(f"a run id is 1 to 128 of [a-z0-9-], got {run!r}")
        return cls(root=state_directory / "runs" / run)

    @property
    def logs(self) -> Path:
        """One file an incarnation."""
        return self.root / "logs"

    def log(self, incarnation: int) -> Path:
        """Standard output and error of an incarnation."""
        return self.logs / f"{incarnation}.log"

    def times(self, incarnation: int) -> Path:
        """How an incarnation has spent its time so far."""
        return self.root / f"times-{incarnation}"

    @property
    def standby_log(self) -> Path:
        """Standard output and error of the run's standby."""
        return self.logs / "standby.log"

    @property
    def incidents(self) -> Path:
        """One directory an incident, named by its number."""
        return self.root / "incidents"

    def batch(self, index: int) -> Path:
        """The trainer's copy of a batch that it put to the supervisor; there may be none."""
        return self.root / "evidence" / f"batch-{index}.npz"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of a run that names no directory of its own."""
        return self.root / "checkpoints"

    def make(self) -> None:
        """Make the directories. They hold the user's data: for this user only."""
        for directory in (self.root, self.logs, self.checkpoints):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def incarnations(self) -> list[int]:
        """The incarnations that have a log."""
        names = (path.stem for path in self.logs.glob("*.log"))
        return [int(name) for name in names if name.isdigit()]

    def newest_incarnation(self) -> int:
        """The newest incarnation that has a log; 0: none."""
        return max(self.incarnations(), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPlaces:
    """Where a run's checkpoints are saved, and where else they may be restored from."""

    directory: Path
    fallbacks: tuple[Path, ...]


def checkpoint_places(files: RunFiles, run: str, spec: run_pb2.CheckpointSpec) -> CheckpointPlaces:
    """Resolve the directories of a specification: the run's id is appended to each."""
    directory = Path(spec.directory) / run if spec.directory else files.checkpoints
    fallback = spec.fallback_directory
    return CheckpointPlaces(
        directory=directory, fallbacks=(Path(fallback) / run,) if fallback else ()
    )
