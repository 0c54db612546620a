"""The daemon's situation in one line, for `systemctl status`."""

from __future__ import annotations

from trainerd.daemon.supervision.events import RunState
from trainerd.daemon.supervision.state import Run, State
from trainerd.daemon.views import Views

MOST = 3
"""Runs that are told of by name."""


def status_line(state: State, views: Views, *, now: float, launcher: str) -> str:
    """What each run that is under way does, how many wait; `launcher`: why it is not linked."""
    under_way = [run for run in state.runs.values() if _under_way(run)]
    queued = sum(run.state is RunState.QUEUED for run in state.runs.values()) - sum(
        run.state is RunState.QUEUED for run in under_way
    )
    parts = [_told(run, views, now) for run in under_way[:MOST]]
    if len(under_way) > MOST:
        parts.append(f"{len(under_way) - MOST} more under way")
    if queued:
        parts.append(f"{queued} queued")
    line = "; ".join(parts) or "no run under way"
    return f"launcher not linked ({launcher}); {line}" if launcher else line


def _under_way(run: Run) -> bool:
    return not run.terminal and (run.state is not RunState.QUEUED or run.trainer is not None)


def _told(run: Run, views: Views, now: float) -> str:
    view = views.snapshot(run, now)
    rate = f", {view.steps_per_second:.3g} steps/s" if view.steps_per_second > 0 else ""
    restarts = f", {view.restarts} restarts" if view.restarts else ""
    step = f"step {view.step:,} of {view.spec.train.steps:,}"
    return f"{run.name} {run.state.value}, {step}{rate}{restarts}"
