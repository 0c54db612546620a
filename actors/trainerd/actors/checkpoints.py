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
from trainerd.actors.checkpoint_meta import CheckpointMeta, read_meta
from trainerd.actors.checkpoint_noise import Hush
from trainerd.actors.checkpoint_past import superseded
from trainerd.actors.checkpoint_retention import kept
from trainerd.actors.checkpoint_retry import Retry
from trainerd.actors.checkpoint_tree import to_nested
from trainerd.actors.checkpointer import Checkpointer, asynchronous
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


@dataclass(slots=True, kw_only=True)
class _Job:
    step: int
    request_ids: tuple[str, ...]
    started_s: float
    blocked_s: float
    overdue: bool = False
    discarded: bool = False


class CheckpointStore:
    """The checkpoints of one run in one directory. Owned by the loop; `close` it.

    Beside the newest `keep` those stay that a rollback of `rollback_steps` needs; see
    `checkpoint_retention`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int,
        listener: Listener,
        clock: Callable[[], float],
        rollback_steps: int = 0,
        save_timeout_s: float = 600.0,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        self._directory = directory
        self._keep, self._rollback_steps = keep, rollback_steps
        self._listener = listener
        self._clock = clock
        self._save_timeout_s = save_timeout_s
        self._checkpointer: Checkpointer = checkpointer or asynchronous()
        # Steps that were to go and could not: never taken for checkpoints again.
        self._discarded: set[int] = set()
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

        A state that is already durable is answered from what is there; while another save is in
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
            if existing is not None and _same_past(existing, meta):
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
            return next(iter(self._committed()), None)
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
            if step in self._discarded:
                return None
        try:
            return Checkpoint(step=step, path=path) if files.is_committed(path) else None
        except OSError:
            # Saving it again fails for the same reason, and says it.
            return None

    def discard_after(self, step: int) -> None:
        """Remove what is newer than `step`, for the run has gone back to it. Never raises for I/O.

        A save in flight of a newer step is removed when it ends and not reported; the next one
        answers whoever asked for it, or for one that waits. What cannot be removed is never taken
        for a checkpoint again.
        """
        with self._changed:
            if self._job is not None and self._job.step > step:
                self._job.discarded = True
            # Tries for states that are no longer of the run's past.
            self._retry.succeeded()
            self._waiting = self._waiting or None
        try:
            doomed = [found for found in files.committed(self._directory) if found.step > step]
        except OSError as error:
            _log.warning("checkpoints after step %d cannot be listed: %s", step, error)
            return
        for checkpoint in doomed:
            self._discard(checkpoint)

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
        if job.step == step and not job.discarded:
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
        self._remove_debris()
        path = self._directory / str(step)
        if path.exists():
            files.set_aside(path)
        with self._changed:
            self._discarded.discard(step)

    def _remove_debris(self) -> None:
        """Remove what was left behind, from a failure until a save has succeeded."""
        if self._clean:
            return
        try:
            files.remove_debris(self._directory)
        except OSError as error:
            # It takes space; a save may succeed all the same.
            _log.warning("what an earlier save left behind could not be removed: %s", error)

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
        if record is None:
            assert failure is not None
            with self._changed:
                request_ids = job.request_ids
            self._failed(job.step, failure, request_ids)
            return request_ids
        with self._changed:
            self._retry.succeeded()
        self._hush.end()
        # Once more: Orbax's threads may go on for a while after a save that has raised.
        self._remove_debris()
        self._clean = True
        if not job.discarded:
            self._remove_old()
        with self._changed:
            # Held while it is said: nothing is reported that was discarded before.
            if not job.discarded:
                self._listener.saved(replace(record, request_ids=job.request_ids))
                return job.request_ids
        self._discard(Checkpoint(step=job.step, path=path))
        return ()

    def _committed(self) -> list[Checkpoint]:
        """What is committed and was not to go, newest first."""
        with self._changed:
            discarded = frozenset(self._discarded)
        return [found for found in files.committed(self._directory) if found.step not in discarded]

    def _discard(self, checkpoint: Checkpoint) -> None:
        with self._changed:
            self._discarded.add(checkpoint.step)
        try:
            files.remove(checkpoint)
        except OSError as error:
            _log.warning("a checkpoint that the run has gone back from stays: %s", error)
            return
        with self._changed:
            self._discarded.discard(checkpoint.step)

    def _remove_old(self) -> None:
        try:
            found = self._committed()
            steps = (checkpoint.step for checkpoint in found)
            stay = kept(steps, keep=self._keep, rollback_steps=self._rollback_steps)
            for checkpoint in found:
                if checkpoint.step not in stay:
                    files.remove(checkpoint)
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


def _same_past(existing: Checkpoint, meta: CheckpointMeta) -> bool:
    """Whether a checkpoint of the same step was made on the same batches."""
    try:
        there = read_meta(existing.path)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return there.batch == meta.batch and not superseded(there, meta.ledger)


def _merged(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))
