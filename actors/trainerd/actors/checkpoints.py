"""Saving: asynchronous, one at a time, never in the way of training.

A save is *blocked* while the state is copied to the host and then goes on in the background. A
watcher thread sees it through: it waits for Orbax, which *commits* the checkpoint, reads every file
back and writes the manifest, which makes it *durable*, and only then reports a `SaveRecord` and
removes what no rule keeps. Whatever goes wrong on the way is a fault, and training goes on.

A save that falls due while another is in flight waits for the next boundary after it; whoever asked
is answered by a state at least as new. After one that failed the store wants another at a later
boundary, with back-off (`Retry`), or at once in the fallback directory, if there is one (`Places`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_claim import claimed
from trainerd.actors.checkpoint_failure import save_failure
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_noise import Hush
from trainerd.actors.checkpoint_past import same_past
from trainerd.actors.checkpoint_places import Places
from trainerd.actors.checkpoint_retention import Retention
from trainerd.actors.checkpoint_retry import Retry
from trainerd.actors.checkpoint_shelf import Shelf
from trainerd.actors.checkpoint_writer import Job, Writer
from trainerd.actors.checkpointer import Checkpointer, asynchronous
from trainerd.actors.fence import Superseded
from trainerd.actors.ledger import Entry
from trainerd.actors.reports import Fault, SaveRecord
from trainerd.actors.state import TrainState

SAVE_TIMEOUT_S = 600.0
"""Seconds after which a save that is not durable is reported as one that takes too long."""
_SLICE_S = 0.2

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Hears how saves end, from the loop's thread or the watcher's."""

    def saved(self, record: SaveRecord) -> None:
        """A checkpoint is durable."""

    def faulted(self, fault: Fault) -> None:
        """A save failed; training goes on."""


class CheckpointStore:
    """The checkpoints of one run, in `directory` and, while that fails, in `fallback`.

    Owned by the loop; `close` it. What stays is what `retention` wants of both directories, and
    `distrusted`, which could not be read: it is no checkpoint to this store, and is left alone.
    """

    def __init__(
        self,
        directory: Path,
        *,
        retention: Retention,
        listener: Listener,
        clock: Callable[[], float],
        fallback: Path | None = None,
        save_timeout_s: float = SAVE_TIMEOUT_S,
        distrusted: Iterable[Path] = (),
        checkpointer: Callable[[], Checkpointer] = asynchronous,
        incarnation: int = 0,
        superseded: Callable[[], None] = lambda: None,
    ) -> None:
        """`incarnation`: of the gang that saves, 0: none. `superseded` hears of a newer one."""
        self._places = Places(directory, fallback)
        self._shelf = Shelf(
            self._places.all, retention, distrusted=distrusted, incarnation=incarnation
        )
        self._superseded = superseded
        self._claims = {place: claimed(place, incarnation) for place in self._places.all}
        self._listener = listener
        self._clock = clock
        self._save_timeout_s = save_timeout_s
        self._checkpointer = checkpointer
        self._changed = threading.Condition()
        self._job: Job | None = None
        self._waiting: tuple[str, ...] | None = None
        self._coalesced = 0
        self._retry = Retry()
        self._hush = Hush()
        self._failure: Fault | None = None
        self._taken: SaveRecord | None = None
        self._writer = self._new_writer()
        # At most one: its save does not end, and the fallback is written to meanwhile.
        self._left_behind: tuple[Writer, Job] | None = None

    def save(
        self,
        step: int,
        state: TrainState,
        meta: CheckpointMeta,
        request_ids: tuple[str, ...] = (),
        *,
        every_steps: int = 0,
    ) -> None:
        """Begin to save `state`; returns once its buffers may be donated. Never raises for I/O.

        A state that is already durable is answered from what is there; while another save is in
        flight the request waits (`wanted` turns true when it can be met). `every_steps`: the
        interval that saves are made at, which is passed on.
        """
        self.check_deadline()
        with self._changed:
            if self._job is not None:
                self._join_queue(self._job, step, request_ids)
                return
            if self._waiting is not None:
                request_ids = _merged(self._waiting, request_ids)
                self._waiting = None
            coalesced, self._coalesced = self._coalesced, 0
            self._retry.began()
            places = self._places.order(self._clock())
        job = Job(
            step=step,
            place=places[0],
            request_ids=request_ids,
            started_s=self._clock(),
            every_steps=every_steps,
            coalesced=coalesced,
        )
        existing = self.durable(step)
        if existing is not None and same_past(existing, meta):
            job.place = existing.path.parent
            self._listener.saved(self._record(job))
            return
        for place in places:
            job.place = place
            if self._begin(job, state, meta, last=place == places[-1]):
                return

    @property
    def wanted(self) -> bool:
        """Whether a save that had to wait, or that failed and is to be tried again, can begin."""
        with self._changed:
            waits = self._waiting is not None or self._retry.due(self._clock())
            return self._job is None and waits

    @property
    def failure(self) -> Fault | None:
        """Why the newest save failed, if none has become durable since."""
        with self._changed:
            return self._failure

    def taken(self) -> SaveRecord | None:
        """The newest save that became durable since the last call, if any did."""
        with self._changed:
            taken, self._taken = self._taken, None
        return taken

    def newest(self) -> Checkpoint | None:
        """The newest durable checkpoint of all directories; None too if none can be read."""
        return self._shelf.newest()

    def durable(self, step: int) -> Checkpoint | None:
        """The durable checkpoint of `step`, if there is one that can be read."""
        with self._changed:
            # It has its manifest, and the watcher has not seen it through.
            if self._job is not None and self._job.step == step:
                return None
        return self._shelf.durable(step)

    def discard_after(self, step: int) -> None:
        """Remove what is newer than `step`, for the run has gone back to it. Never raises for I/O.

        A save in flight of a newer step is removed when it ends and not reported; the next one
        answers whoever asked for it, or for one that waits. What cannot be removed is never taken
        for a checkpoint again.
        """
        with self._changed:
            left = () if self._left_behind is None else (self._left_behind[1],)
            for job in (self._job, *left):
                if job is not None and job.step > step:
                    job.discarded = True
            # Tries for states that are no longer of the run's past.
            self._retry.succeeded()
            self._waiting = self._waiting or None
        self._shelf.discard_after(step)

    def discard_superseded(self, step: int, left_out: Sequence[Entry]) -> None:
        """Remove what is newer than `step` and was trained on what `left_out` leaves out.

        For a store without a save in flight. Never raises for I/O.
        """
        self._shelf.discard_superseded(step, left_out)

    def check_deadline(self) -> None:
        """Report a save in flight that takes too long; call it now and then.

        Where there is another directory it is left behind, and the next save goes there.
        """
        with self._changed:
            job = self._job
            if job is None or job.overdue:
                return
            age_s = self._clock() - job.started_s
            if age_s <= self._save_timeout_s:
                return
            job.overdue = True
            if self._left_behind is None and self._places.elsewhere(job.place):
                self._leave_behind(job)
            late = TimeoutError(f"still not durable after {age_s:.0f} s")
            self._failure = fault = save_failure(job.step, job.place, late)
        self._listener.faulted(fault)

    def hasten(self, save_timeout_s: float) -> None:
        """Where there is another directory, give the first one no more time than this."""
        if len(self._places.all) > 1:
            self._save_timeout_s = min(self._save_timeout_s, save_timeout_s)

    def drain(self, timeout_s: float) -> bool:
        """Wait until no save is in flight. False after the timeout."""
        until_s = time.monotonic() + timeout_s
        while True:
            self.check_deadline()
            left_s = until_s - time.monotonic()
            with self._changed:
                if self._changed.wait_for(lambda: self._job is None, min(max(left_s, 0), _SLICE_S)):
                    return True
            if left_s <= 0:
                return False

    def close(self, timeout_s: float) -> bool:
        """See the save in flight through and end the watcher. False if it did not end in time."""
        until_s = time.monotonic() + timeout_s
        with self._changed:
            left = () if self._left_behind is None else (self._left_behind[0],)
            writers = (self._writer, *left)
        ended = [each.close(max(0.0, until_s - time.monotonic())) for each in writers]
        if not all(ended):
            _log.warning("the save in flight has not ended within %g s; left behind", timeout_s)
            return False
        self._hush.close()
        for claim in self._claims.values():
            claim.close()
        return True

    def _begin(self, job: Job, state: TrainState, meta: CheckpointMeta, *, last: bool) -> bool:
        """Begin a save in the job's place. False if that failed, which is reported then."""
        begun_s = self._clock()
        try:
            self._hush.begin()
            self._prepare(job)
            self._writer.begin(job, state, meta)
        except Exception as error:
            self._failed(job, error, answers=last)
            return False
        job.blocked_s += self._clock() - begun_s
        with self._changed:
            self._job = job
            self._writer.watch(job)
        return True

    def _join_queue(self, job: Job, step: int, request_ids: tuple[str, ...]) -> None:
        if job.step == step and not job.discarded:
            job.request_ids = _merged(job.request_ids, request_ids)
            return
        self._waiting = _merged(self._waiting or (), request_ids)
        self._coalesced += 1

    def _leave_behind(self, job: Job) -> None:
        """Let another writer save from now on. Called with the condition held."""
        now = self._clock()
        job.abandoned = True
        self._writer.retire()
        self._left_behind, self._writer = (self._writer, job), self._new_writer()
        self._job = None
        if job.request_ids:
            self._waiting = _merged(self._waiting or (), job.request_ids)
            job.request_ids = ()
        self._places.failed(job.place, now)
        self._places.shut(job.place)
        self._retry.failed(now, elsewhere=True)
        self._changed.notify_all()

    def _new_writer(self) -> Writer:
        return Writer(self._checkpointer(), self._ended)

    def _prepare(self, job: Job) -> None:
        files.make_writable(job.place)
        self._claims[job.place].hold()
        self._shelf.remove_debris(job.place)
        self._shelf.clear(job.path)

    def _ended(self, writer: Writer, job: Job) -> None:
        """See a save through, in its writer's thread."""
        answered: tuple[str, ...] = ()
        try:
            answered = self._see_through(writer, job)
        except Exception:
            # A listener's mistake must not be the end of saving.
            _log.exception("the save of step %d could not be reported", job.step)
        with self._changed:
            # Only now: whoever waits for the save is to find it reported.
            if job.abandoned:
                self._left_behind = None
                self._places.reopened(job.place)
            else:
                self._job = None
            late = tuple(name for name in job.request_ids if name not in answered)
            if late:
                self._waiting = _merged(self._waiting or (), late)
            self._changed.notify_all()

    def _see_through(self, writer: Writer, job: Job) -> tuple[str, ...]:
        """Wait for a save and report how it ended; return whose requests that answered."""
        try:
            writer.checkpointer.wait_until_finished()
            if not files.is_committed(job.path):
                raise FileNotFoundError(2, "the save ended without a checkpoint", str(job.path))
            self._shelf.seal(job.path)
            job.durable_s = self._clock()
            if not job.discarded:
                self._tidy(job.place)
            record = self._record(job)
        except Exception as error:
            again = job.place == self._places.first and self._places.elsewhere(job.place)
            return self._failed(job, error, answers=not again)
        with self._changed:
            self._places.succeeded(job.place)
            if not job.abandoned:
                self._retry.succeeded()
        self._hush.end()
        self._shelf.saved(job.place)
        with self._changed:
            # Held while it is said: nothing is reported that was discarded before.
            if job.abandoned and not job.discarded:
                # It was reported as one that failed; those that came after it are newer.
                _log.info("the save of step %d has become durable after all", job.step)
                return ()
            if not job.discarded:
                self._taken, self._failure = record, None
                self._listener.saved(replace(record, request_ids=job.request_ids))
                return job.request_ids
        self._shelf.discard(Checkpoint(step=job.step, path=job.path))
        return ()

    def _tidy(self, place: Path) -> None:
        # Once more: Orbax's threads may go on for a while after a save that has raised.
        self._shelf.remove_debris(place)
        self._shelf.remove_unfinished(place)
        self._shelf.tidy()

    def _failed(self, job: Job, error: Exception, *, answers: bool) -> tuple[str, ...]:
        """Clear away what a failed save has left and report it; return whose requests that answers.

        `answers`: nothing else is tried at once, whoever has asked is told that it failed.
        """
        if isinstance(error, Superseded):
            self._superseded()
        self._shelf.remove_failed(job.path)
        with self._changed:
            now = self._clock()
            self._places.failed(job.place, now)
            if not job.abandoned:
                self._retry.failed(now, elsewhere=not answers)
            # One that was reported as too late is not reported twice.
            request_ids = job.request_ids if answers and not job.overdue else ()
        fault = save_failure(job.step, job.place, error, request_ids)
        if fault.reason == "no_space":
            # What no rule keeps goes before the next try; what one does keep never does.
            self._shelf.tidy()
        if not job.overdue:
            with self._changed:
                self._failure = fault
            self._listener.faulted(fault)
        return request_ids

    def _record(self, job: Job) -> SaveRecord:
        return SaveRecord(
            step=job.step,
            path=str(job.path),
            bytes=files.size_bytes(job.path),
            blocked_s=job.blocked_s,
            duration_s=max(0.0, job.durable_s - job.started_s),
            request_ids=job.request_ids,
            fallback=job.place != self._places.first,
            every_steps=job.every_steps,
            coalesced=job.coalesced,
            disk_bytes=self._shelf.size_bytes(),
            disk_free_bytes=self._shelf.free_bytes(job.place),
        )


def _merged(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))
