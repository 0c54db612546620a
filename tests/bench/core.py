"""How many events a second the supervisor takes, on one core and without its journal."""

from __future__ import annotations

import gc
import time

from bench import figures as f
from soak.simulation import story
from trainerd.daemon.supervision.events import Event
from trainerd.daemon.supervision.state import State
from trainerd.daemon.supervision.supervisor import step

EVENTS = 20_000
SEED = 1
LEAST_RATE = 50_000.0
"""Events a second: a storm of faults must not be what a host is busy with."""


def figures(*, pairs: int) -> list[f.Figure]:
    """Play the same random story over and over; a rate is per second of this process's own time."""
    told = story(SEED, EVENTS)
    _rate(told)
    return [
        f.figure(
            "random events and faults, supervisor",
            "",
            [_rate(told) for _ in range(pairs)],
            unit="events/s",
            bound=f.at_least(LEAST_RATE),
        )
    ]


def _rate(told: list[tuple[float, Event]]) -> float:
    gc.collect()
    state = State()
    began = time.process_time()
    for now, event in told:
        state, _ = step(state, event, now=now)
    return len(told) / (time.process_time() - began)
