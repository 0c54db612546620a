"""Snapshots: the newest states of a run in this host's memory, for the process after this one.

Two files take turns, so that one is whole while the other is written. Taking a snapshot costs the
caller one copy of the state; digests and marks are made in a background thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.host_memory import available_bytes
from trainerd.actors.snapshot_file import Reserve, SnapshotFile, reserve
from trainerd.actors.snapshot_format import Layout, SnapshotDamaged
from trainerd.actors.snapshot_state import copy_out, layout_of
from trainerd.actors.state import TrainState
from trainerd.v1.protocol import SNAPSHOT_SUFFIX

NAMES = (f"a{SNAPSHOT_SUFFIX}", f"b{SNAPSHOT_SUFFIX}")
STAMP = "stamp"
"""Stands beside what a checkpoint would hold."""

_LARGEST_SHARE = 0.25
_CLOSE_S = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A snapshot that is whole. The loop waited `blocking_s`; a thread was busy `background_s`."""

    step: int
    blocking_s: float
    background_s: float


class SnapshotStore:
    """Writes a run's snapshots. One thread calls it; whoever does holds the run's lock.

    They take at most `most_bytes` together, and a quarter of the memory that is `available`;
    where they cannot be had, that is logged once and `wanted` is False from then on.
    `stamp`: what the snapshots bear from now on, where several processes hold parts of one state.
    """

    def __init__(
        self,
        directory: Path,
        *,
        most_bytes: int,
        available: Callable[[], int] = available_bytes,
        take: Reserve = reserve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = tuple(SnapshotFile(directory / name) for name in NAMES)
        self._most_bytes, self._available, self._reserve = most_bytes, available, take
        self._clock = clock
        self._changed = threading.Condition()
        self._job: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._layout: Layout | None = None
        self._reserved = False
        self._steps = [_step_in(file) for file in self._files]
        self._taken: Taken | None = None
        self.wanted, self.stamp = True, ""

    @property
    def files(self) -> tuple[SnapshotFile, ...]:
        """Where the snapshots lie."""
        return self._files

    @property
    def newest_step(self) -> int:
        """Applied updates of the newest snapshot that is whole; -1: there is none."""
        return max(self._steps)

    def prepare(self, abstract: TrainState) -> None:
        """Make room in the background for states of this kind."""
        layout = layout_of(abstract)
        self._layout = layout
        self._begin(lambda: self._make_room(layout))

    def keep(self, file: SnapshotFile, step: int) -> None:
        """The run goes on from the snapshot in `file`; whatever the others hold is worth less."""
        self._steps = [step if other is file else -1 for other in self._files]

    def ready(self) -> bool:
        """Whether a snapshot can be taken now: there is room, and the last one is whole."""
        with self._changed:
            return self.wanted and self._reserved and self._job is None

    def take(self, state: TrainState, step: int, meta: CheckpointMeta) -> None:
        """Take a snapshot; returns once the state's buffers may be donated. Only when `ready`.

        `meta` is what a checkpoint would hold.
        """
        began_s = self._clock()
        layout, index = self._layout, self._steps.index(min(self._steps))
        assert layout is not None
        file, self._steps[index] = self._files[index], -1
        copy_out(state, layout, file.begin())
        held = {**meta.as_json(), STAMP: self.stamp}
        blocking_s = self._clock() - began_s

        def finish() -> None:
            behind_s = self._clock()
            try:
                file.commit(step, layout, held)
            except ValueError as error:
                self._give_up(str(error))
                return
            taken = Taken(step=step, blocking_s=blocking_s, background_s=self._clock() - behind_s)
            with self._changed:
                self._taken, self._steps[index] = taken, step

        self._begin(finish)

    def taken(self) -> Taken | None:
        """The newest snapshot, once after it has become whole."""
        taken, self._taken = self._taken, None
        return taken

    def discard_after(self, step: int) -> None:
        """Forget the snapshots of later steps: the run went back. Never raises."""
        self.settle()
        for index, file in enumerate(self._files):
            if _step_in(file) > step:
                try:
                    file.discard()
                except OSError as error:
                    _log.error("snapshot %s could not be discarded: %s", file.path, error)
            self._steps[index] = _step_in(file)

    def settle(self, timeout_s: float = _CLOSE_S) -> bool:
        """Wait for the background thread; False if it is still busy after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._job is None, timeout_s)

    def close(self) -> None:
        """End the thread. The snapshots stay."""
        self.settle()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        for file in self._files:
            file.close()

    def _make_room(self, layout: Layout) -> None:
        needed = len(self._files) * layout.file_bytes
        if needed > self._most_bytes:
            self._give_up(f"they need {_mib(needed)}, {_mib(self._most_bytes)} are allowed")
            return
        free = self._available() + sum(file.taken_bytes() for file in self._files)
        if needed > _LARGEST_SHARE * free:
            self._give_up(f"they need {_mib(needed)}, a quarter of {_mib(free)} is allowed")
            return
        for file in self._files:
            try:
                file.reserve(layout, self._reserve)
            except OSError as error:
                self._give_up(f"{error.strerror or error} ({file.path})")
                return
        with self._changed:
            self._reserved = True

    def _give_up(self, why: str) -> None:
        self.wanted = False
        _log.warning("no snapshots are taken in memory: %s; a crash costs more steps", why)
        for file in self._files:
            try:
                file.remove()
            except OSError as error:
                _log.warning("snapshot %s could not be removed: %s", file.path, error)
        self._steps = [-1 for _ in self._files]

    def _begin(self, job: Callable[[], None]) -> None:
        with self._changed:
            assert self._job is None, "one thing at a time"
            self._job = job
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="trainerd-snapshots", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                # Ended by close(), which every owner calls.
                self._changed.wait_for(lambda: self._closed or self._job is not None)
                job = self._job
            if job is None:
                return
            try:
                job()
            except Exception as error:
                _log.exception("a snapshot could not be made")
                self._give_up(f"{type(error).__name__}: {error}")
            finally:
                with self._changed:
                    self._job = None
                    self._changed.notify_all()


def _step_in(file: SnapshotFile) -> int:
    """The step of the snapshot that a file says it holds; -1: none."""
    try:
        return file.read()[0].step
    except (SnapshotDamaged, OSError, KeyError, TypeError, ValueError):
        return -1


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
