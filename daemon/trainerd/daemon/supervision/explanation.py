"""Why a run is as it is, and what it waits for: read from the state alone."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from trainerd.daemon.supervision.events import RunState
from trainerd.daemon.supervision.policy import MAX_LIMIT, FaultClass
from trainerd.daemon.supervision.state import Run, State


class UpcomingKind(enum.Enum):
    """What a run waits for; the values are the names of `trainerd.v1.UpcomingKind`."""

    RESTART = "restart"
    ATTACH = "attach"
    EXIT = "exit"
    STOP = "stop"
    REAP = "reap"
    MISSING = "missing"
    DEVICES = "devices"
    LAUNCHER = "launcher"
    RESUME = "resume"
    CHECKPOINT = "checkpoint"


_TIMERS = {
    "age": UpcomingKind.CHECKPOINT,
    "restart": UpcomingKind.RESTART,
    "attach": UpcomingKind.ATTACH,
    "exit": UpcomingKind.EXIT,
    "stop": UpcomingKind.STOP,
    "kill": UpcomingKind.REAP,
    "missing": UpcomingKind.MISSING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUse:
    """What one class's faults have used up. `limit` None: any number is allowed."""

    fault_class: FaultClass
    used: int
    limit: int | None
    window_s: float
    in_a_row: int
    consecutive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """One thing a run waits for: in how many seconds (None: nobody knows), on which other run."""

    kind: UpcomingKind
    in_s: float | None = None
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Budgets with a fault in their window, restarts without progress, what comes next."""

    budgets: tuple[BudgetUse, ...]
    cycles: int
    max_cycles: int
    upcoming: tuple[Upcoming, ...]


def explain(state: State, run: Run, *, now: float) -> Explanation:
    """Explain a run of this state at time `now`."""
    return Explanation(
        budgets=tuple(_budgets(run, now)),
        cycles=run.budgets.cycles,
        max_cycles=run.policy.max_cycles_without_progress,
        upcoming=(*sorted(_timers(state, run, now), key=_due), *_waits(state, run)),
    )


def _budgets(run: Run, now: float) -> Iterator[BudgetUse]:
    for fault_class in FaultClass:
        rule = run.policy.rule(fault_class)
        used = _used(run, fault_class, rule.window_s, now)
        in_a_row = run.budgets.consecutive.get(fault_class, 0)
        if used or (in_a_row and rule.consecutive):
            yield BudgetUse(
                fault_class=fault_class,
                used=used,
                limit=rule.limit if rule.limit <= MAX_LIMIT else None,
                window_s=rule.window_s,
                in_a_row=in_a_row,
                consecutive=rule.consecutive,
            )


def _used(run: Run, fault_class: FaultClass, window_s: float, now: float) -> int:
    """Faults in the window; of hangs those of the phase that has used most of its own."""
    accounts = [
        of
        for of in run.budgets.windows
        if of is fault_class or (isinstance(of, tuple) and of[0] is fault_class)
    ]
    used = (run.budgets.used(of, window_s=window_s, now=now) for of in accounts)
    return max(used, default=0)


def _timers(state: State, run: Run, now: float) -> Iterator[Upcoming]:
    for key, due in state.timers.items():
        kind, run_id, incarnation = key.split(":")
        if run_id == run.id and int(incarnation) == run.incarnation:
            yield Upcoming(kind=_TIMERS[kind], in_s=max(0.0, due - now))


def _waits(state: State, run: Run) -> Iterator[Upcoming]:
    """What is not a matter of time."""
    if run.terminal:
        return
    if run.state is RunState.PAUSED and run.pausing:
        yield Upcoming(kind=UpcomingKind.RESUME)
    unstarted = run.trainer is None or run.trainer.unheard_of
    if unstarted and state.launcher is None:
        yield Upcoming(kind=UpcomingKind.LAUNCHER)
    elif run.state is RunState.QUEUED:
        for other in state.runs.values():
            if other.holds_devices:
                yield Upcoming(kind=UpcomingKind.DEVICES, run=other.id)


def _due(upcoming: Upcoming) -> float:
    return upcoming.in_s if upcoming.in_s is not None else 0.0
