"""Faults on purpose, carried out in a trainer: said to the daemon first, and done once."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from trainerd.actors.drills import Drills, InjectedFault, Injection, Spoiling
from trainerd.v1 import inject_pb2

_FOR_EVER_S = 3600
_OF_EVERY_PROCESS = (InjectedFault.NAN, InjectedFault.LOSS_SPIKE)
"""What concerns slots is done by whoever has them; all else befalls one process of a gang."""

Announce = Callable[[Injection, int, int], bool]
"""Says that an injection is about to happen at a step and a batch; False: it must not, for it would
happen again after a crash."""


class TrainerDrill:
    """Implements `drills.Drill`. Armed from any thread, asked by the loop.

    `armed` False: nothing can be due, and nobody need ask. `leads`: this is the first process of
    its gang, or alone.
    """

    def __init__(self, announce: Announce, *, leads: bool = True) -> None:
        self._announce, self._leads = announce, leads
        self._drills = Drills()
        self._fresh: queue.SimpleQueue[Injection] = queue.SimpleQueue()
        self.armed = False

    def arm(self, armed: inject_pb2.ArmedInjection) -> None:
        """Add an injection of the run; one that is known already changes nothing."""
        injection = injection_of(armed)
        if self._leads or injection.fault in _OF_EVERY_PROCESS:
            self._fresh.put(injection)
            self.armed = True

    def __call__(self, step: int, batch: int, /) -> Spoiling | None:
        """See `drills.Drill`."""
        while not self._fresh.empty():
            self._drills.arm(self._fresh.get_nowait())
        spoiling = None
        for injection in self._drills.due(step, batch):
            # Not tried again at this batch, whatever comes of it.
            self._drills.happens(injection.number, batch)
            named = f"injection {injection.number}: {injection.fault.value} at batch {batch}"
            if not self._announce(injection, step, batch):
                print(f"trainerd: {named} is left out: it was not journalled", file=sys.stderr)
                continue
            print(f"trainerd: {named}", file=sys.stderr, flush=True)
            spoiling = _both(spoiling, _do(injection, f"injected at batch {batch}"))
        return spoiling


def injection_of(armed: inject_pb2.ArmedInjection) -> Injection:
    """An injection as the protocol says it. Raises ValueError for a fault that is not known."""
    told = armed.injection
    name = inject_pb2.InjectedFault.Name(told.fault).removeprefix("INJECTED_FAULT_").lower()
    return Injection(
        number=armed.number,
        fault=InjectedFault(name),
        step=told.step,
        probability=told.probability,
        slots=tuple(told.slots),
        times=told.times,
        seconds=told.seconds,
        exit_code=told.exit_code,
        seed=told.seed,
        batches=frozenset(armed.batches),
    )


def _do(injection: Injection, what: str) -> Spoiling | None:
    slots = injection.slots or None
    match injection.fault:
        case InjectedFault.NAN:
            return Spoiling(nan_slots=slots)
        case InjectedFault.LOSS_SPIKE:
            return Spoiling(spike_slots=slots)
        case InjectedFault.DATA_ERROR:
            return Spoiling(error=f"the source raised OSError: {what}")
        case InjectedFault.SLOW_STEP:
            time.sleep(injection.seconds)
        case InjectedFault.EXCEPTION:
            raise RuntimeError(what)
        case InjectedFault.OUT_OF_MEMORY:
            _device_raises(f"RESOURCE_EXHAUSTED: {what}")
        case InjectedFault.DEVICE_ERROR:
            _device_raises(f"INTERNAL: {what}")
        case InjectedFault.HANG:
            while True:
                time.sleep(_FOR_EVER_S)
        case InjectedFault.HANG_GIL:
            # PyDLL, unlike CDLL, keeps Python's global lock during the call.
            hold = ctypes.PyDLL(None).sleep
            while True:
                hold(_FOR_EVER_S)
        case InjectedFault.SIGKILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case InjectedFault.SIGSTOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case InjectedFault.SEGFAULT:
            ctypes.string_at(0)
        case InjectedFault.EXIT:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(injection.exit_code)
    return None


def _device_raises(status: str) -> NoReturn:
    """Raise what XLA raises."""
    # The trainer imports this module before it imports jax.
    from jax.errors import JaxRuntimeError  # noqa: PLC0415

    raise JaxRuntimeError(status)


def _both(one: Spoiling | None, other: Spoiling | None) -> Spoiling | None:
    if one is None or other is None:
        return one or other
    return Spoiling(
        nan_slots=_all_of(one.nan_slots, other.nan_slots),
        spike_slots=_all_of(one.spike_slots, other.spike_slots),
        error=one.error or other.error,
    )


def _all_of(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if one is None or other is None else (*one, *other)
