"""One Orbax checkpointer and the thread that sees its saves through, one at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orbax.checkpoint as ocp

from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_tree import to_nested
from trainerd.actors.checkpointer import Checkpointer
from trainerd.actors.placement import on_host
from trainerd.actors.state import TrainState

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Job:
    """A save in flight, guarded by its store's condition. Times in seconds of the store's clock.

    `durable_s`: when it was. `coalesced`: how many saves fell due since the one before and are met
    by this one. `overdue`: it was reported as too slow. `discarded`: the run has gone back from its
    state. `abandoned`: another writer saves meanwhile.
    """

    step: int
    place: Path
    request_ids: tuple[str, ...]
    started_s: float
    blocked_s: float = 0.0
    durable_s: float = 0.0
    every_steps: int = 0
    coalesced: int = 0
    overdue: bool = False
    discarded: bool = False
    abandoned: bool = False

    @property
    def path(self) -> Path:
        """The checkpoint's directory."""
        return self.place / str(self.step)


class Writer:
    """Owned by a store, which begins a save on `checkpointer` and then hands its job over.

    `see_through` is called in a thread of the writer's own once there is a job, with the writer; it
    waits for the checkpointer, and raises nothing that is not a defect.
    """

    def __init__(
        self, checkpointer: Checkpointer, see_through: Callable[[Writer, Job], None]
    ) -> None:
        self.checkpointer = checkpointer
        self._see_through = see_through
        self._changed = threading.Condition()
        self._job: Job | None = None
        self._closed = self._retired = False
        self._thread = threading.Thread(target=self._watch, name="trainerd-save", daemon=True)
        self._thread.start()

    def begin(self, job: Job, state: TrainState, meta: CheckpointMeta) -> None:
        """Begin to save; returns once the buffers of `state` may be donated. Raises what Orbax
        does. `watch` it then."""
        parts = {
            files.STATE: ocp.args.StandardSave(on_host(to_nested(state))),
            files.META: ocp.args.JsonSave(meta.as_json()),
        }
        self.checkpointer.save(job.path, args=ocp.args.Composite(**parts))

    def watch(self, job: Job) -> None:
        """See the save through that has just begun; there is no other."""
        with self._changed:
            self._job = job
            self._changed.notify_all()

    def retire(self) -> None:
        """End by itself after the save in flight, whenever that ends."""
        with self._changed:
            self._closed = self._retired = True
            self._changed.notify_all()

    def close(self, timeout_s: float) -> bool:
        """End after the save in flight. False if that did not end in time: it is left behind."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        if not self._retired:
            self.checkpointer.close()
        return True

    def _watch(self) -> None:
        while True:
            with self._changed:
                # Ended by close(), which every owner calls.
                self._changed.wait_for(lambda: self._closed or self._job is not None)
                job, self._job = self._job, None
            if job is None:
                break
            try:
                self._see_through(self, job)
            except Exception:
                _log.exception("the save of step %d could not be seen through", job.step)
        if self._retired:
            self.checkpointer.close()
