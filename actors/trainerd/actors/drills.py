"""Faults on purpose: which of those that a run asked for is due at a step."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field, replace
from typing import Protocol


class InjectedFault(enum.Enum):
    """What can be made to happen; the values are the names of `trainerd.v1.InjectedFault`, which
    explains each."""

    EXCEPTION = "exception"
    NAN = "nan"
    LOSS_SPIKE = "loss_spike"
    DATA_ERROR = "data_error"
    OUT_OF_MEMORY = "out_of_memory"
    DEVICE_ERROR = "device_error"
    HANG = "hang"
    HANG_GIL = "hang_gil"
    SIGKILL = "sigkill"
    SIGSTOP = "sigstop"
    SEGFAULT = "segfault"
    EXIT = "exit"
    SLOW_STEP = "slow_step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """One fault on purpose, at a step or with a probability; fields as in `trainerd.v1.Injection`.

    `number` names it within the run. `batches` are those it happened at already.
    """

    number: int
    fault: InjectedFault
    step: int = 0
    probability: float = 0.0
    slots: tuple[int, ...] = ()
    times: int = 0
    seconds: float = 0.0
    exit_code: int = 0
    seed: int = 0
    batches: frozenset[int] = frozenset()

    def due(self, step: int, batch: int) -> bool:
        """Whether it happens at the step that is to make `step` applied updates of `batch`."""
        if batch in self.batches or len(self.batches) >= max(1, self.times):
            return False
        if self.step > 0:
            return step >= self.step
        return drawn(self.seed, self.number, batch) < self.probability


def drawn(seed: int, number: int, batch: int) -> float:
    """A number from 0 to 1, short of it, that depends on the three alone, on every machine."""
    digest = hashlib.blake2b(f"{seed}:{number}:{batch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoiling:
    """What is wrong with a batch on purpose: slots whose loss and gradient are NaN, slots where
    they are a thousand times too large; None: all. `error`: the source is to have raised."""

    nan_slots: tuple[int, ...] | None = ()
    spike_slots: tuple[int, ...] | None = ()
    error: str = ""


class Drill(Protocol):
    """Makes faults happen. Called by the loop before each step that it dispatches, if `armed`."""

    @property
    def armed(self) -> bool:
        """Whether anything can be due. Cheap: asked at each step."""

    def __call__(self, step: int, batch: int, /) -> Spoiling | None:
        """Do what is due at the step that is to make `step` applied updates of `batch`.

        Returns what is to be wrong with the batch, None: nothing is. What it raises is raised as
        by the step, before anything was dispatched. It may not return at all.
        """


@dataclass(slots=True)
class Drills:
    """The injections of a run. Owned by one thread."""

    _injections: dict[int, Injection] = field(default_factory=dict)

    def arm(self, injection: Injection) -> None:
        """Add an injection; one that is known already keeps what it knows to have happened."""
        known = self._injections.get(injection.number)
        if known is not None:
            injection = _after(injection, known.batches)
        self._injections[injection.number] = injection

    def due(self, step: int, batch: int) -> tuple[Injection, ...]:
        """What is due, by number."""
        return tuple(
            self._injections[number]
            for number in sorted(self._injections)
            if self._injections[number].due(step, batch)
        )

    def happens(self, number: int, batch: int) -> None:
        """The injection happens at `batch`, and never there again."""
        self._injections[number] = _after(self._injections[number], frozenset((batch,)))


def _after(injection: Injection, batches: frozenset[int]) -> Injection:
    return replace(injection, batches=injection.batches | batches)
