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
from trainerd.actors.state import PyTree
from trainerd.actors.step import Outputs, Settings
from trainerd.actors.work import Step, Told


class StepLost(Exception):
    """The step of a batch failed at run time; `cause` says how. The state is gone."""

    def __init__(self, loaded: Loaded, cause: Exception) -> None:
        super().__init__(f"the step of batch {loaded.batch} failed at run time")
        self.loaded, self.cause = loaded, cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A step that is done, as the host saw it."""

    loaded: Loaded
    forced: tuple[int, ...]
    outputs: Outputs
    duration_s: float
    data_wait_s: float


@dataclass(slots=True, kw_only=True)
class _Flight:
    loaded: Loaded
    forced: tuple[int, ...]
    told: Told
    dispatched_s: float
    data_wait_s: float
    done_s: float | None = None


class Pipeline:
    """Runs a step on a state. Owned by the loop; not safe for threads."""

    def __init__(self, step: Step, state: PyTree, clock: Callable[[], float]) -> None:
        self._step, self._clock = step, clock
        self._state, self._gone = state, False
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
    def state(self) -> PyTree:
        """The state after the last dispatched step; at rest, the state as it stands."""
        assert not self._gone, "a state that is gone is never acted on"
        return self._state

    def whole(self) -> bool:
        """Whether the state is there and none of its buffers was taken by a failed step."""
        return not self._gone and not any(
            isinstance(leaf, jax.Array) and leaf.is_deleted()
            for leaf in jax.tree.leaves(self._state)
        )

    def let_go(self) -> None:
        """Free the state's memory: another one takes its place, or none. Nothing is in flight."""
        self._state, self._gone = None, True

    def put(self, state: PyTree) -> None:
        """Go on from `state`, which belongs to the pipeline from now on. Nothing is in flight."""
        self._state, self._gone = state, False

    def running(self) -> bool:
        """Whether a step in flight is not done; it is noted when one was first seen to be."""
        running = False
        for flight in self._flights:
            if flight.done_s is None:
                if flight.told.ready():
                    flight.done_s = self._clock()
                else:
                    running = True
        return running

    def dispatch(
        self,
        loaded: Loaded,
        forced: tuple[int, ...],
        settings: Settings,
        word: Word,
        *,
        data_wait_s: float,
    ) -> None:
        """Begin a step. Where it raises, the state may or may not be left; see `whole`."""
        # Dispatching may take as long as the step itself, where XLA runs it in this thread.
        self.running()
        dispatched_s = self._clock()
        self._state, told = self._step(self.state, loaded, forced, settings, word)
        self._flights.append(
            _Flight(
                loaded=loaded,
                forced=forced,
                told=told,
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
            outputs = flight.told.read()
        except Exception as error:
            # Whatever was dispatched after it was made from its result.
            self._flights.clear()
            self._state, self._gone = None, True
            raise StepLost(flight.loaded, error) from error
        began_s = max(flight.dispatched_s, self._landed_s)
        self._landed_s = self._clock() if flight.done_s is None else flight.done_s
        return Landing(
            loaded=flight.loaded,
            forced=flight.forced,
            outputs=outputs,
            duration_s=self._landed_s - began_s,
            data_wait_s=flight.data_wait_s,
        )
