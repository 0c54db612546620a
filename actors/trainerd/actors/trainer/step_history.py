"""Keeps the metrics of every applied update, beside the step: the loop only leaves a row behind.

A row goes into memory that outlives this process, and from there, in a thread of its own, to the
run's file about once a second. A disk that is full or slow costs the loop nothing; the rows wait,
and those that find no more room are counted.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trainerd.actors.reports import StepRecord
from trainerd.actors.step_ring import StepRing
from trainerd.actors.step_rows import RowWriter
from trainerd.actors.step_store import FILE, RING, StepStore, drain, rescue

PERIOD_S = 1.0
"""Seconds between two writes."""
CLOSE_S = 5.0
"""Seconds that the last write may take."""


class History(Protocol):
    """Hears of applied updates, from the loop's thread; never waits, never raises."""

    def stepped(self, record: StepRecord) -> None:
        """An update was applied."""

    def went_back(self, step: int) -> None:
        """The run stands at `step`."""

    def close(self) -> None:
        """Write what is left; at most a few seconds."""


class NoHistory:
    """Keeps nothing."""

    def stepped(self, record: StepRecord) -> None: ...

    def went_back(self, step: int) -> None: ...

    def close(self) -> None: ...


def open_history(run_directory: str, memory: str, incarnation: int) -> History:
    """The history of a run whose files lie in `run_directory`; rows wait in `memory`.

    Without memory of the host's (empty) they wait beside the file, on disk. Where nothing can be
    kept that is said once, and training goes on.
    """
    if not run_directory:
        return NoHistory()
    place = Path(memory or run_directory)
    try:
        ring = StepRing(place / RING)
    except (OSError, ValueError) as error:
        print(f"trainerd: no step metrics are kept: {error}", file=sys.stderr)
        return NoHistory()
    left = [Path(run_directory) / RING] if memory else []
    return StepHistory(ring, Path(run_directory) / FILE, incarnation=incarnation, left=left)


class StepHistory:
    """Implements `History`. `left`: rings of earlier processes that waited elsewhere."""

    def __init__(
        self,
        ring: StepRing,
        file: Path,
        *,
        incarnation: int,
        left: list[Path],
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ring, self._file, self._left = ring, file, left
        self._rows, self._clock, self._period_s = RowWriter(incarnation), clock, period_s
        self._closing = threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._write, name="step history", daemon=True)
        self._thread.start()

    def stepped(self, record: StepRecord) -> None:
        """Leave a row behind."""
        self._ring.put(self._rows.row(record, self._clock()))

    def went_back(self, step: int) -> None:
        """Leave a mark behind: later rows no longer count."""
        self._ring.put(self._rows.back_to(step))

    def close(self) -> None:
        """Write what is left."""
        self._closing.set()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self._ring.close()

    def _write(self) -> None:
        store: StepStore | None = None
        while True:
            last = self._closing.wait(self._period_s if store is not None else 0.0)
            try:
                store = store or self._opened()
                drain(self._ring, store)
            except (sqlite3.Error, OSError) as error:
                self._complain(error)
            if last:
                break
            if store is None:
                self._closing.wait(self._period_s)
        if store is not None:
            store.close()

    def _opened(self) -> StepStore:
        for ring in self._left:
            rescue(ring, self._file)
            ring.unlink(missing_ok=True)
        return StepStore.open(self._file)

    def _complain(self, error: Exception) -> None:
        """Say it once for each reason: it may go on for hours."""
        if (said := str(error)) != self._told:
            self._told = said
            print(f"trainerd: step metrics wait, {self._file}: {said}", file=sys.stderr)
