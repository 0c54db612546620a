"""What a loop trains: a state, a step that changes it, batches, and where an earlier run stood."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trainerd.actors.checkpoint_restore import Restored
from trainerd.actors.control import Word
from trainerd.actors.digest import state_digest
from trainerd.actors.feed import Loaded
from trainerd.actors.gathering import Gathering
from trainerd.actors.ledger import Entry
from trainerd.actors.reports import Fault
from trainerd.actors.state import PyTree, TrainState
from trainerd.actors.step import Outputs, Settings


class Told(Protocol):
    """What a step says, which may still be running."""

    def ready(self) -> bool:
        """Whether `read` would not wait."""

    def read(self) -> Outputs:
        """Wait for the step; return Python numbers in it, and arrays wherever they are.

        Raises what the step failed with.
        """


class Step(Protocol):
    """Changes a state by one batch. The state it is given is the loop's, to be donated."""

    @property
    def lag(self) -> int:
        """How many steps may be in flight while another is dispatched; 0: calling waits."""

    def __call__(
        self,
        state: PyTree,
        loaded: Loaded,
        forced: tuple[int, ...],
        settings: Settings,
        word: Word,
        /,
    ) -> tuple[PyTree, Told]:
        """Begin a step on `loaded`, whose slots `forced` never count."""


class EpochEnded(Exception):
    """The pass over the data is over, and another one begins: `epoch_of` knows it now."""


class Supply(Protocol):
    """Where batches come from, by their index."""

    def epoch_of(self, batch: int, /) -> int:
        """The epoch that `batch` belongs to, from 0, as far as is known before it is taken."""

    def ahead(self, batch: int, /) -> None:
        """`batch` will be taken next."""

    def take(self, batch: int, timeout_s: float, /) -> Loaded | None:
        """Return `batch`; None: not ready yet. Raises `DataError`, `DataEnded`, `EpochEnded`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run stands: applied updates, next batch, newest loss, what was left out so far.

    `losses` is what thresholds of loss spikes are made of; `origin` the checkpoint or snapshot that
    all this was read from, None if it was not; a snapshot is not `durable`. `passed_over`: newer
    checkpoints that nobody could read.
    """

    step: int = 0
    cursor: int = 0
    loss: float = math.nan
    losses: tuple[float, ...] = ()
    entries: tuple[Entry, ...] = ()
    origin: Path | None = None
    durable: bool = True
    passed_over: frozenset[Path] = frozenset()

    @staticmethod
    def of(restored: Restored) -> Position:
        """Stand where a checkpoint or a snapshot stood."""
        meta = restored.meta
        return Position(
            step=restored.checkpoint.step,
            cursor=meta.batch,
            loss=meta.loss,
            losses=meta.losses,
            entries=meta.ledger,
            origin=restored.checkpoint.path,
            durable=restored.durable,
            passed_over=restored.passed_over,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """An older state, and where the run stood then. The state belongs to whoever asked for it."""

    state: PyTree
    position: Position


class Rewind(Protocol):
    """Goes back: to an older state, and with the data to where it was then."""

    def __call__(self, at_most_step: int, entries: Sequence[Entry], /) -> Rewound:
        """Return the newest sound state of at most `at_most_step` updates; where there is none, the
        oldest there is; where there is none at all, the one that the run began with.

        `entries` is all that the run leaves out by now: a state that was trained on any of it is
        none. The batch taken next is the first after the position's that is not left out. Raises
        what restoring raises.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is measured beside training, and when; the last state of a run always is.

    `measure(state)` returns named numbers. `every_steps` 0: not between. `at_start`: before the
    first step. `each_epoch`: where an epoch ends. `together`: all processes must measure at once.
    """

    measure: Callable[[PyTree], Mapping[str, Any]]
    every_steps: int = 0
    at_start: bool = False
    each_epoch: bool = False
    together: bool = False


def _as_it_is(fault: Fault) -> Fault:
    return fault


def own_digest(state: PyTree, _step: int) -> str:
    """The digest of a state that this process has all of."""
    return state_digest(state)


def _unweighed(loaded: Loaded, _weights: np.ndarray[Any, Any]) -> Loaded:
    return loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One run's parts. `state` belongs to the loop, which donates it.

    A batch is `slots` parts that are masked one by one, of `slot_examples` examples each (0: not
    known). `form` makes what a checkpoint holds of a state and its step, `digest` the digest of
    both (empty: not known), `reading` what a checkpoint holds of an iterator of examples that reads
    a batch next. `rewind` None: there is no way back. `explained` adds to a fault what is known of
    the step's memory; `weighed` gives a batch other weights on the devices, `(padded,)`, and leaves
    the host's copy as it is. `gathering`: the state is cut over several processes, and is
    saved as that gathers it; see `saving_together`.
    """

    state: PyTree
    step: Step
    supply: Supply
    slots: int
    slot_examples: int
    position: Position
    form: Callable[[PyTree, int], TrainState]
    reading: Callable[[int], Mapping[str, Any] | None] = lambda _batch: None
    evaluation: Evaluation | None = None
    rewind: Rewind | None = None
    explained: Callable[[Fault], Fault] = _as_it_is
    weighed: Callable[[Loaded, np.ndarray[Any, Any]], Loaded] = _unweighed
    digest: Callable[[PyTree, int], str] = own_digest
    gathering: Gathering | None = None
