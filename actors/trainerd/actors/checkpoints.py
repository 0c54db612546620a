"""Saving: asynchronous, one at a time, never in the way of training.

A save is *blocked* while the state is copied to the host and then goes on in the background. A
watcher thread sees it through: it waits for Orbax, removes what is too old or was left behind, and
reports a `SaveRecord` or a fault. A save that falls due while another is in flight waits for the
next boundary after it; whoever asked is answered by a state at least as new. After one that failed
the store wants another at a later boundary, with back-off; see `Retry`.

Digests of what was written belong between `commit` and `report` in `_see_through`.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import orbax.checkpoint as ocp

from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_noise import Hush
from trainerd.actors.checkpoint_retry import Retry
from trainerd.actors.checkpoint_tree import to_nested
from trainerd.actors.faults import save_failure_reason
from trainerd.actors.reports import Fault, FaultClass, Phase, SaveRecord
from trainerd.actors.state import TrainState

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Hears how saves end, from the loop's thread or the watcher's."""

    def saved(self, record: SaveRecord) -> None:
        """A checkpoint is durable."""

    def faulted(self, fault: Fault) -> None:
        """A save failed; training goes on."""


class Checkpointer(Protocol):
    """What is used of Orbax's `AsyncCheckpointer`."""

    def save(self, directory: Path, args: ocp.args.Composite) -> None:
        """Begin to save; returns once the arrays are copied."""

    def wait_until_finished(self) -> None:
        """Wait for the save; raise what it raised."""

    def close(self) -> None:
        """Let go of its threads."""


@dataclass(slots=True, kw_only=True)
class _Job:
    step: int
    request_ids: tuple[str, ...]
    started_s: float
    blocked_s: float
    overdue: bool = False


class CheckpointStore:
    """The checkpoints of one run in one directory. Owned by the loop; `close` it."""

    def __init__(
        self,
        directory: Path,
        *,
        keep: int,
        listener: Listener,
        clock: Callable[[], float],
        save_timeout_s: float = 600.0,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        self._directory = directory
        self._keep = keep
        self._listener = listener
        self._clock = clock
        self._save_timeout_s = save_timeout_s
        self._checkpointer: Checkpointer = checkpointer or ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler()
        )
        self._changed = threading.Condition()
        self._job: _Job | None = None
        self._waiting: tuple[str, ...] | None = None
        self._closed = False
        self._clean = False
        self._retry = Retry()
        self._hush = Hush()
        self._watcher = threading.Thread(target=self._watch, name="trainerd-save", daemon=True)
        self._watcher.start()

    def save(
        self, step: int, state: TrainState, meta: CheckpointMeta, request_ids: tuple[str, ...] = ()
    ) -> None:
        """Begin to save `state`; returns once its buffers may be donated. Never raises for I/O.

        A step that is already durable is answered from what is there; while another save is in
        flight the request waits (`wanted` turns true when it can be met).
        """
        with self._changed:
            if self._job is not None:
                self._join_queue(self._job, step, request_ids)
                return
            if self._waiting is not None:
                request_ids = _merged(self._waiting, request_ids)
                self._waiting = None
            self._retry.began()
        started_s = self._clock()
        try:
            existing = self.durable(step)
            if existing is not None:
                self._listener.saved(self._record(existing, request_ids))
                return
            self._hush.begin()
            self._prepare(step)
            self._checkpointer.save(
                self._directory / str(step),
                args=ocp.args.Composite(
                    **{
                        files.STATE: ocp.args.StandardSave(to_nested(state)),
                        files.META: ocp.args.JsonSave(meta.as_json()),
                    }
                ),
            )
        except Exception as error:
            self._failed(step, error, request_ids)
            return
        with self._changed:
            self._job = _Job(
                step=step,
                request_ids=request_ids,
                started_s=started_s,
                blocked_s=self._clock() - started_s,
            )
            self._changed.notify_all()

    @property
    def wanted(self) -> bool:
        """Whether a save that had to wait, or that failed and is to be tried again, can begin."""
        with self._changed:
            waits = self._waiting is not None or self._retry.due(self._clock())
            return self._job is None and waits

    def newest(self) -> Checkpoint | None:
        """The newest durable checkpoint of this directory; None too if it cannot be read."""
        try:
            return next(iter(files.committed(self._directory)), None)
        except OSError as error:
            _log.warning("checkpoints cannot be listed: %s", error)
            return None

    def durable(self, step: int) -> Checkpoint | None:
        """The durable checkpoint of `step`, if there is one that can be read."""
        path = self._directory / str(step)
        with self._changed:
            # Orbax has renamed it, the watcher has not seen it through.
            if self._job is not None and self._job.step == step:
                return None
        try:
            return Checkpoint(step=step, path=path) if files.is_committed(path) else None
        except OSError:
            # Saving it again fails for the same reason, and says it.
            return None

    def drain(self, timeout_s: float) -> bool:
        """Wait until no save is in flight. False after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._job is None, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """See the save in flight through and end the watcher. False if it did not end in time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._watcher.join(timeout_s)
        if self._watcher.is_alive():
            _log.warning("the save in flight has not ended within %g s; left behind", timeout_s)
            return False
        self._checkpointer.close()
        self._hush.close()
        return True

    def _join_queue(self, job: _Job, step: int, request_ids: tuple[str, ...]) -> None:
        if job.step == step:
            job.request_ids = _merged(job.request_ids, request_ids)
            return
        self._waiting = _merged(self._waiting or (), request_ids)
        age_s = self._clock() - job.started_s
        if age_s > self._save_timeout_s and not job.overdue:
            job.overdue = True
            late = TimeoutError(f"still not durable after {age_s:.0f} s")
            self._report_failure(job.step, late, ())

    def _prepare(self, step: int) -> None:
        files.make_writable(self._directory)
        if not self._clean:
            try:
                files.remove_debris(self._directory)
                self._clean = True
            except OSError as error:
                # It takes space; a save may succeed all the same.
                _log.warning("what an earlier save left behind could not be removed: %s", error)
        path = self._directory / str(step)
        if path.exists():
            files.set_aside(path)

    def _watch(self) -> None:
        while True:
            with self._changed:
                # Ended by close(), which every owner calls.
                self._changed.wait_for(lambda: self._closed or self._job is not None)
                job = self._job
            if job is None:
                return
            answered: tuple[str, ...] = ()
            try:
                answered = self._see_through(job)
            except Exception:
                # A listener's mistake must not be the end of saving.
                _log.exception("the save of step %d could not be reported", job.step)
            with self._changed:
                # Only now: whoever waits for the save is to find it reported.
                self._job = None
                late = tuple(name for name in job.request_ids if name not in answered)
                if late:
                    self._waiting = _merged(self._waiting or (), late)
                self._changed.notify_all()

    def _see_through(self, job: _Job) -> tuple[str, ...]:
        """Wait for a save and report how it ended; return whose requests that answered."""
        path = self._directory / str(job.step)
        record, failure = None, None
        try:
            self._checkpointer.wait_until_finished()
            if not files.is_committed(path):
                raise FileNotFoundError(2, "the save ended without a checkpoint", str(path))
            record = SaveRecord(
                step=job.step,
                path=str(path),
                bytes=files.size_bytes(path),
                blocked_s=job.blocked_s,
                duration_s=self._clock() - job.started_s,
            )
        except Exception as error:
            failure = error
        with self._changed:
            request_ids = job.request_ids
        if failure is not None:
            self._failed(job.step, failure, request_ids)
        if record is not None:
            with self._changed:
                self._retry.succeeded()
            self._hush.end()
            self._remove_old()
            self._listener.saved(replace(record, request_ids=request_ids))
        return request_ids

    def _remove_old(self) -> None:
        try:
            files.remove_old(self._directory, self._keep)
        except OSError as error:
            _log.warning("an old checkpoint could not be removed: %s", error)

    def _failed(self, step: int, error: Exception, request_ids: tuple[str, ...]) -> None:
        with self._changed:
            self._retry.failed(self._clock())
        # Its space may be what the next save needs; what cannot go now goes with debris.
        self._clean = False
        with contextlib.suppress(OSError):
            for left in self._directory.glob(f"{step}{files.TEMPORARY}*"):
                shutil.rmtree(left, ignore_errors=True)
        self._report_failure(step, error, request_ids)

    def _report_failure(self, step: int, error: Exception, request_ids: tuple[str, ...]) -> None:
        lines = str(error).strip().splitlines() or [""]
        self._listener.faulted(
            Fault(
                fault_class=FaultClass.CHECKPOINT_SAVE_FAILED,
                message=f"saving step {step} to {self._directory} failed: "
                f"{type(error).__name__}: {lines[0]}",
                step=step,
                phase=Phase.SAVE,
                reason=save_failure_reason(error),
                request_ids=request_ids,
            )
        )

    def _record(self, checkpoint: Checkpoint, request_ids: tuple[str, ...]) -> SaveRecord:
        return SaveRecord(
            step=checkpoint.step,
            path=str(checkpoint.path),
            bytes=files.size_bytes(checkpoint.path),
            blocked_s=0.0,
            duration_s=0.0,
            request_ids=request_ids,
        )


def _merged(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))
