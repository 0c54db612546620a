"""How many events a second the supervisor takes, on one core and without its journal."""

from __future__ import annotations

import gc
import time

from bench import figures as f
from soak.simulation import story
from trainerd.daemon.supervision.events import Event, RunSubmitted, StopRequested
from trainerd.daemon.supervision.policy import Policy
from trainerd.daemon.supervision.state import State
from trainerd.daemon.supervision.supervisor import step

EVENTS = 20_000
SEED = 1
OVER = 1_000
"""Runs that are over and kept, in the second figure: a host's past must not slow its present."""
LEAST_RATE = 50_000.0
"""Events a second: a storm of faults must not be what a host is busy with."""


def figures(*, pairs: int) -> list[f.Figure]:
    """Play the same random story over and over; a rate is per second of this process's own time."""
    told = story(SEED, EVENTS)
    past = _with_a_past(OVER)
    _rate(told, past)
    return [
        f.figure(
            "random events and faults, supervisor",
            "",
            [_rate(told, State()) for _ in range(pairs)],
            unit="events/s",
            bound=f.at_least(LEAST_RATE),
        ),
        f.figure(
            "the same beside 1,000 runs that are over",
            "",
            [_rate(told, past) for _ in range(pairs)],
            unit="events/s",
            bound=f.at_least(LEAST_RATE),
        ),
    ]


def _with_a_past(runs: int) -> State:
    state = State()
    for number in range(runs):
        name = f"past-{number}"
        submitted = RunSubmitted(run=name, name=name, spec=b"", policy=Policy())
        state, _ = step(state, submitted, now=0.0)
        state, _ = step(state, StopRequested(run=name), now=0.0)
    return state


def _rate(told: list[tuple[float, Event]], state: State) -> float:
    gc.collect()
    began = time.process_time()
    for now, event in told:
        state, _ = step(state, event, now=now)
    return len(told) / (time.process_time() - began)
