"""A tracer that records nothing: it remembers what it was told, and fails as it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class FakeTracing:
    """Implements `trainerd.actors.trainer.profiling.Tracing`. `fails`: in which method."""

    fails: str = ""
    calls: list[str] = field(default_factory=list)
    directories: list[Path] = field(default_factory=list)

    def start(self, directory: Path) -> None:
        self.calls.append("start")
        self.directories.append(directory)
        if self.fails == "start":
            raise RuntimeError("no tracer")

    def stop(self) -> None:
        self.calls.append("stop")
        if self.fails == "stop":
            raise OSError(28, "No space left on device")
