"""When and with what a run saves: the loop's side of the checkpoint store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import jax

from trainerd.actors.accounting import Account
from trainerd.actors.boundary import Boundary
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import made_by
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.plan import Plan
from trainerd.actors.reports import Fault, StepRecord
from trainerd.actors.run_meta import meta_of
from trainerd.actors.snapshot_interval import Pace
from trainerd.actors.state import PyTree
from trainerd.actors.work import Position, Work

_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 8.0
_WRITTEN_BYTES_PER_S = 2e8
"""What a save is expected to write, until one is measured."""
_REST_S = 0.001
"""What a save costs beside its copy: a step that is not dispatched while another one runs."""


class Saving(Protocol):
    """How a loop saves: `Saver`, or `Unsaved` where nobody wants checkpoints."""

    def due(self, step: int, /) -> bool:
        """Whether a state that has reached `step` is to be saved, short of the final one."""

    def begins(self, step: int, /) -> bool:
        """Whether that save is made now, of a state at rest; others are agreed on first."""

    @property
    def wanted(self) -> bool:
        """Whether a save that failed, or had to wait, is to be made at once."""

    def stepped(self, record: StepRecord, /) -> None:
        """A step has landed."""

    def save(self, state: PyTree, account: Account, /) -> None:
        """Begin to save; returns once the state's buffers may be donated."""

    def rescue(self, state: PyTree, account: Account, /) -> None:
        """Begin to save a state that an exception has left whole, if that can be done."""

    def durable(self, step: int, /) -> bool:
        """Whether the state that has reached `step` is durable, as far as anybody can tell."""

    def save_durably(self, state: PyTree, account: Account, /) -> bool:
        """Save and wait, trying again with back-off. False: not durable in time, or told to stop
        without saving meanwhile."""

    @property
    def failure(self) -> Fault | None:
        """Why the newest save failed, if none has become durable since."""

    def settled(self) -> Checkpoint | None:
        """See the save in flight through; return the newest durable checkpoint."""

    def went_back(self, position: Position, /) -> None:
        """The run goes on from an older state: what was saved since is not of its past."""


class Saver:
    """Saves states at rest. Whoever has asked for a save by then is answered by it.

    A state to begin with that is not in one of the store's own `directories` is saved at once: from
    then on the run does not need the other one.
    """

    def __init__(
        self,
        store: CheckpointStore,
        plan: Plan,
        boundary: Boundary,
        work: Work,
        *,
        directories: Sequence[Path],
        clock: Callable[[], float],
        crash_every_s: float = 0.0,
    ) -> None:
        self._store, self._plan, self._boundary, self._work = store, plan, boundary, work
        self._directories = frozenset(place.absolute() for place in directories)
        self._saved_step, self._owes = -1, False
        self._pace: Pace | None = None
        if plan.checkpoint_auto:
            size_bytes = sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(work.state))
            self._pace = Pace(
                expected_cost_s=size_bytes / _WRITTEN_BYTES_PER_S + _REST_S,
                crash_every_s=crash_every_s,
            )
        self._saved_s = clock()
        self._stand(work.position)
        devices = _devices(work.state) or jax.devices()
        # Where the host computes the steps too, what is done in the background is taken from them.
        self._shared = any(device.platform == "cpu" for device in devices)
        self._made_by = made_by(devices)
        self._clock = clock

    def due(self, step: int) -> bool:
        """Whether a state that has reached `step` is to be saved, short of the final one."""
        self._store.check_deadline()
        if step >= self._plan.steps:
            return False
        fresh = 0 < step != self._saved_step
        return (fresh and self._regular(step)) or self._owes or self._store.wanted

    def begins(self, step: int) -> bool:
        """At once: who saves alone needs nobody's agreement."""
        return self.due(step)

    @property
    def wanted(self) -> bool:
        """Whether a save that failed, or had to wait, is to be made at once."""
        return self._store.wanted

    def stepped(self, record: StepRecord) -> None:
        """A step has landed: follow what steps and saves take."""
        if self._pace is None:
            return
        if record.applied:
            self._pace.stepped(record.duration_s)
        if (taken := self._store.taken()) is not None:
            self._pace.took(taken.blocked_s + (taken.duration_s if self._shared else 0.0) + _REST_S)

    def durable(self, step: int) -> bool:
        """Whether the state that has reached `step` is durable, as far as anybody can tell."""
        try:
            return self._store.durable(step) is not None
        except OSError:
            # It counts as not saved, and is tried again.
            return False

    def save(self, state: PyTree, account: Account) -> None:
        """Begin to save; returns once the state's buffers may be donated."""
        self._boundary.asked()
        self._saved_step = self._from_step = account.step
        self._owes = False
        self._saved_s = self._clock()
        meta = meta_of(account, self._plan, self._work, self._made_by)
        form = self._work.form(state, account.step)
        if self._work.gathering is not None:
            form = self._work.gathering.held(account.step)
        ids = self._boundary.take_save_ids()
        self._store.save(account.step, form, meta, ids, every_steps=self._every_steps)

    def rescue(self, state: PyTree, account: Account) -> None:
        """Begin to save a state that an exception has left whole."""
        # What is in flight is older, and would be all there is.
        self.settled()
        self.save(state, account)

    @property
    def failure(self) -> Fault | None:
        """Why the newest save failed, if none has become durable since."""
        return self._store.failure

    def save_durably(self, state: PyTree, account: Account) -> bool:
        """Save and wait, trying again with back-off until the plan's timeout.

        False: not durable in time, or a stop without saving was asked for meanwhile.
        """
        # Of all the time there is, the first directory alone gets no more than a half.
        self._store.hasten(self._plan.final_save_timeout_s / 2)
        deadline_s = self._clock() + self._plan.final_save_timeout_s
        retry_s = _FIRST_RETRY_S
        while True:
            self.save(state, account)
            self._store.drain(max(0.0, deadline_s - self._clock()))
            saved = self.durable(account.step)
            left_s = deadline_s - self._clock()
            if saved or left_s <= 0:
                return saved
            if self._store.wanted:
                # It had to wait for an older save, which is done now.
                continue
            if not self._boundary.asked().stop_saves:
                return False
            time.sleep(min(retry_s, left_s))
            retry_s = min(2 * retry_s, _LONGEST_RETRY_S)

    def settled(self) -> Checkpoint | None:
        """See the save in flight through; return the newest durable checkpoint."""
        # A save that has begun is worth waiting for, however the run ends.
        self._store.drain(self._plan.final_save_timeout_s)
        return self._store.newest()

    def went_back(self, position: Position) -> None:
        """The run goes on from an older state: remove what was saved since."""
        self._stand(position)
        self._store.discard_after(position.step)

    def _stand(self, position: Position) -> None:
        origin = position.origin if position.durable else None
        self._saved_step = -1 if origin is None else position.step
        self._from_step = position.step
        self._owes = origin is not None and origin.parent.absolute() not in self._directories

    @property
    def _every_steps(self) -> int:
        """The interval in force; 0: not by updates."""
        return self._plan.checkpoint_every_steps if self._pace is None else self._pace.every

    def _regular(self, step: int) -> bool:
        plan = self._plan
        if plan.checkpoint_every_s and self._clock() - self._saved_s >= plan.checkpoint_every_s:
            return True
        if self._pace is not None:
            return 0 < self._pace.every <= step - self._from_step
        return plan.checkpoint_every_steps > 0 and step % plan.checkpoint_every_steps == 0


def regular_save(plan: Plan, step: int) -> bool:
    """Whether a save falls due at `step` by the number of updates alone."""
    every = 0 if plan.checkpoint_auto else plan.checkpoint_every_steps
    return every > 0 and 0 < step < plan.steps and step % every == 0


class Unsaved:
    """Saves nothing: nobody wants it, or another process of the gang does. Implements `Saving`.

    Requests for saves are that process's, once all have agreed on one.
    """

    def __init__(self, boundary: Boundary | None = None) -> None:
        self._boundary = boundary

    @property
    def wanted(self) -> bool:
        """Never."""
        return False

    def stepped(self, _record: StepRecord, /) -> None:
        """Do nothing."""

    def durable(self, _step: int, /) -> bool:
        """Nothing is."""
        return False

    def due(self, _step: int, /) -> bool:
        """Never."""
        return False

    def begins(self, _step: int, /) -> bool:
        """Never."""
        return False

    def save(self, _state: PyTree, _account: Account, /) -> None:
        """Do nothing."""
        if self._boundary is not None:
            self._boundary.take_save_ids()

    def rescue(self, _state: PyTree, _account: Account, /) -> None:
        """Do nothing."""

    def save_durably(self, _state: PyTree, _account: Account, /) -> bool:
        """Do nothing; nothing is durable."""
        return False

    @property
    def failure(self) -> Fault | None:
        """Nothing fails."""
        return None

    def settled(self) -> Checkpoint | None:
        """Nothing."""
        return None

    def went_back(self, _position: Position, /) -> None:
        """Do nothing."""


def _devices(state: PyTree) -> list[jax.Device]:
    """All devices that hold a part of `state`."""
    arrays = (leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array))
    return list({device for array in arrays for device in array.devices()})
