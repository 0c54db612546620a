"""Faults on purpose, and how often each has happened in a run."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class InjectedFault(enum.Enum):
    """What can be made to happen in a trainer; `trainerd.v1.InjectedFault` explains each."""

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
    """One fault on purpose, at a step or with a probability. `times` 0: once."""

    fault: InjectedFault
    step: int = 0
    probability: float = 0.0
    slots: tuple[int, ...] = ()
    times: int = 0
    seconds: float = 0.0
    exit_code: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Armed:
    """An injection of a run. `number` names it, from 1; `batches` it happened at already."""

    number: int
    injection: Injection
    batches: tuple[int, ...] = ()

    @property
    def spent(self) -> bool:
        """Whether it has happened as often as it may."""
        return len(self.batches) >= max(self.injection.times, 1)
