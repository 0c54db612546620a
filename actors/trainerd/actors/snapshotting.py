"""When a loop takes snapshots: as often as their measured cost allows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

import jax

from trainerd.actors.accounting import Account
from trainerd.actors.plan import Plan
from trainerd.actors.reports import StepRecord
from trainerd.actors.run_meta import meta_of
from trainerd.actors.snapshot_interval import Pace
from trainerd.actors.snapshot_state import layout_of
from trainerd.actors.snapshots import SnapshotStore
from trainerd.actors.state import PyTree, TrainState
from trainerd.actors.work import Work

_COPIED_BYTES_PER_S = 2e9
_REST_S = 0.0002
"""What a snapshot costs beside its copy: a step that is not dispatched while another one runs."""
_NEVER = sys.maxsize


class Snapshotting(Protocol):
    """How a loop takes snapshots: `Snapshots`, or `Unsnapped` where nobody wants them."""

    def due(self, step: int, /) -> bool:
        """Whether a state that has reached `step` is to be taken now."""

    def ready(self, step: int, /) -> bool:
        """Whether a state that has reached `step` can be taken now, due or not."""

    def take(self, state: PyTree, account: Account, /) -> None:
        """Take a state at rest; returns once its buffers may be donated."""

    def stepped(self, record: StepRecord, /) -> None:
        """A step has landed."""

    def went_back(self, step: int, /) -> None:
        """The run goes on from an older state."""


class Snapshots:
    """Takes snapshots of one run. Owned by the loop, as `store` is by whoever made it.

    `told(step, every)`: see `Recovery`.
    """

    def __init__(
        self,
        store: SnapshotStore,
        plan: Plan,
        work: Work,
        abstract: TrainState,
        *,
        crash_every_s: float,
        told: Callable[[int, int], None],
    ) -> None:
        self._store, self._plan, self._work, self._abstract = store, plan, work, abstract
        size_bytes = sum(leaf.bytes for leaf in layout_of(abstract).leaves)
        self._pace = Pace(
            expected_cost_s=2 * size_bytes / _COPIED_BYTES_PER_S + _REST_S,
            crash_every_s=crash_every_s,
        )
        # Where the host computes the steps too, what is done in the background is taken from them.
        self._shared = any(device.platform == "cpu" for device in jax.local_devices())
        self._told = told
        self._begun = self._ended = False
        self._step, self._due_step = work.position.step, _NEVER
        told(store.newest_step, 0)

    def due(self, step: int) -> bool:
        """Whether a state that has reached `step` is to be taken now."""
        return step >= self._due_step and self.ready(step)

    def ready(self, step: int) -> bool:
        """Whether a state that has reached `step` can be taken now, due or not."""
        return self._begun and step < self._plan.steps and self._store.ready()

    def take(self, state: PyTree, account: Account) -> None:
        """Take a state at rest; returns once its buffers may be donated."""
        meta = meta_of(account, self._plan, self._work)
        self._step, self._due_step = account.step, _NEVER
        self._store.take(self._work.form(state, account.step), account.step, meta)

    def stepped(self, record: StepRecord) -> None:
        """A step has landed: take one of the first, and then as often as their cost allows."""
        if self._ended:
            return
        if record.applied:
            self._pace.stepped(record.duration_s)
        if not self._begun:
            # At once, whatever it costs: the next process begins there, and need not make the
            # first state anew; nor does one crash after another keep a run where it is.
            if record.applied:
                self._begun = True
                self._store.prepare(self._abstract)
                self._due_step = record.step
        elif not self._store.wanted:
            self._ended, self._due_step = True, _NEVER
            self._told(-1, 0)
        elif (taken := self._store.taken()) is not None:
            background_s = taken.background_s if self._shared else 0.0
            self._pace.took(taken.blocking_s + background_s + _REST_S)
            self._choose()

    def went_back(self, step: int) -> None:
        """The run goes on from an older state: forget what was taken since."""
        self._store.discard_after(step)
        self._store.taken()
        self._step = step
        if self._begun and not self._ended:
            self._choose()

    def _choose(self) -> None:
        self._due_step = self._step + max(1, self._pace.every)
        self._told(self._store.newest_step, self._pace.every)


class Unsnapped:
    """Takes none. Implements `Snapshotting`."""

    def due(self, _step: int, /) -> bool:
        """Never."""
        return False

    def ready(self, _step: int, /) -> bool:
        """Never."""
        return False

    def take(self, _state: PyTree, _account: Account, /) -> None:
        """Do nothing."""

    def stepped(self, _record: StepRecord, /) -> None:
        """Do nothing."""

    def went_back(self, _step: int, /) -> None:
        """Do nothing."""
