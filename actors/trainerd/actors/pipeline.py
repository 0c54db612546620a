"""Steps in flight: dispatched in order, read in order, at most two at a time.

The pipeline owns the state. It is donated to each step, so that after an error at run time there
is none left, and after an error before dispatch it is whole; the pipeline knows which.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass

import jax

from trainerd.actors.control import Word
from trainerd.actors.feed import Loaded
from trainerd.actors.slots import SlotPlan
from trainerd.actors.state import TrainState
from trainerd.actors.step import CompiledStep, Outputs, Settings


class StepLost(Exception):
    """A step failed at run time; `cause` says how. The state is gone."""

    def __init__(self, batch: int, cause: Exception) -> None:
        super().__init__(f"the step of batch {batch} failed at run time")
        self.batch, self.cause = batch, cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A step that is done, as the host saw it. `outputs` holds host arrays."""

    loaded: Loaded
    forced: tuple[int, ...]
    outputs: Outputs
    duration_s: float
    data_wait_s: float


@dataclass(slots=True, kw_only=True)
class _Flight:
    loaded: Loaded
    forced: tuple[int, ...]
    outputs: Outputs
    dispatched_s: float
    data_wait_s: float
    done_s: float | None = None


class Pipeline:
    """Runs a compiled step on a state. Owned by the loop; not safe for threads."""

    def __init__(
        self,
        step: CompiledStep,
        slot_plan: SlotPlan,
        state: TrainState,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._step, self._slot_plan, self._settings = step, slot_plan, settings
        self._clock = clock
        self._state: TrainState | None = state
        self._flights: collections.deque[_Flight] = collections.deque()
        self._landed_s = 0.0

    @property
    def in_flight(self) -> int:
        """Steps dispatched and not read."""
        return len(self._flights)

    @property
    def last_batch(self) -> int | None:
        """The batch dispatched last, if it is still in flight."""
        return self._flights[-1].loaded.batch if self._flights else None

    @property
    def state(self) -> TrainState:
        """The state after the last dispatched step; at rest, the state as it stands."""
        assert self._state is not None, "a state that is gone is never acted on"
        return self._state

    def whole(self) -> bool:
        """Whether the state is there and none of its buffers was taken by a failed step."""
        return self._state is not None and not any(
            leaf.is_deleted() for leaf in jax.tree.leaves(self._state)
        )

    def dispatch(
        self, loaded: Loaded, forced: tuple[int, ...], word: Word, *, data_wait_s: float
    ) -> None:
        """Begin a step. What it raises was raised before the step ran; see `whole`."""
        mask = self._step.place(self._slot_plan.mask(forced))
        dispatched_s = self._clock()
        for flight in self._flights:
            # Dispatching may take as long as the step itself, where XLA runs it in this thread.
            if flight.done_s is None and flight.outputs.step.is_ready():
                flight.done_s = dispatched_s
        self._state, outputs = self._step(
            self.state, loaded.slots, loaded.placed_weights, mask, self._settings, word
        )
        self._flights.append(
            _Flight(
                loaded=loaded,
                forced=forced,
                outputs=outputs,
                dispatched_s=dispatched_s,
                data_wait_s=data_wait_s,
            )
        )

    def land(self) -> Landing | None:
        """Wait for the oldest step in flight; None if there is none. Raises `StepLost`.

        Its duration begins when it was dispatched or the step before it was done, whichever is
        later, and ends when its outputs were first seen to be ready.
        """
        if not self._flights:
            return None
        flight = self._flights.popleft()
        try:
            outputs: Outputs = jax.device_get(flight.outputs)
        except Exception as error:
            # Whatever was dispatched after it was made from its result.
            self._flights.clear()
            self._state = None
            raise StepLost(flight.loaded.batch, error) from error
        began_s = max(flight.dispatched_s, self._landed_s)
        self._landed_s = self._clock() if flight.done_s is None else flight.done_s
        return Landing(
            loaded=flight.loaded,
            forced=flight.forced,
            outputs=outputs,
            duration_s=self._landed_s - began_s,
            data_wait_s=flight.data_wait_s,
        )
