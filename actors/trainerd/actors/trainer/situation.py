"""What a trainer says of itself in every greeting and heartbeat."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from trainerd.actors.reports import Phase

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")


@dataclass(slots=True)
class Situation:
    """Phase and applied updates, from any thread."""

    _phase: Phase = Phase.SPAWN
    _step: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, phase: Phase, step: int) -> None:
        """A phase began."""
        with self._lock:
            self._phase, self._step = phase, step

    def advance(self, step: int) -> None:
        """An update was applied."""
        with self._lock:
            self._step = step

    def now(self) -> tuple[Phase, int]:
        """Phase and applied updates."""
        with self._lock:
            return self._phase, self._step


def resident_bytes() -> int:
    """Resident memory of this process in bytes."""
    return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
