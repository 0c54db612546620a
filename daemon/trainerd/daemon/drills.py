"""The faults that a run file asks for, as a list: those of its schedule are drawn here.

Pure and deterministic: the same specification gives the same faults at the same steps, so that a
replay of the journal does too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from trainerd.v1 import inject_pb2, run_pb2

MAX_INJECTIONS = 1000
"""Injections of one run, drawn ones included."""
SLOW_STEP_S = 1.0
"""How much longer a step takes that a schedule slows down."""
EXIT_CODE = 1
"""What a process ends with that a schedule lets end."""

_DRAW_BYTES = 8
_MOST_STEPS = 2**53


def asked_for(spec: run_pb2.RunSpec) -> bool:
    """Whether a specification asks for faults."""
    return bool(spec.inject.faults) or spec.inject.HasField("schedule")


def expanded(spec: run_pb2.RunSpec) -> list[inject_pb2.Injection]:
    """All injections of a specification, its own before the drawn ones; at most MAX_INJECTIONS + 1.

    Call it with a schedule that is valid. One more than MAX_INJECTIONS: there would be too many.
    """
    every = list(spec.inject.faults)
    if spec.inject.HasField("schedule"):
        for drawn in _drawn(spec.inject.schedule, spec.train.steps):
            if len(every) > MAX_INJECTIONS:
                break
            every.append(drawn)
    return every[: MAX_INJECTIONS + 1]


def _drawn(schedule: inject_pb2.InjectSchedule, steps: int) -> Iterator[inject_pb2.Injection]:
    """Gaps are even over 1 to 2·mean − 1 steps; each fault is as likely as the others."""
    if not schedule.faults or not schedule.mean_steps >= 1:
        return
    # No run is longer; twice the largest float is no number of steps.
    mean_steps = min(schedule.mean_steps, float(_MOST_STEPS))
    step, number = 0, 0
    while True:
        number += 1
        gap, choice = _draws(schedule.seed, number)
        step += 1 + int(gap * (2 * mean_steps - 1))
        if step > steps:
            return
        fault = schedule.faults[int(choice * len(schedule.faults))]
        yield inject_pb2.Injection(
            fault=fault,
            step=step,
            seconds=SLOW_STEP_S if fault == inject_pb2.INJECTED_FAULT_SLOW_STEP else 0.0,
            exit_code=EXIT_CODE if fault == inject_pb2.INJECTED_FAULT_EXIT else 0,
        )


def _draws(seed: int, number: int) -> tuple[float, float]:
    """Two numbers of [0, 1). A digest is the same on every machine and in every release."""
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    first = int.from_bytes(digest[:_DRAW_BYTES], "big") >> 11
    second = int.from_bytes(digest[_DRAW_BYTES : 2 * _DRAW_BYTES], "big") >> 11
    return first / 2**53, second / 2**53
