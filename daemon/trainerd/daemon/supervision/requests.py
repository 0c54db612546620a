"""Transitions caused by clients: submit, pause, resume, stop, checkpoint, restart, delete."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from trainerd.daemon.supervision.commands import Pause, Record, RemoveFiles, Resume, Save, Stop
from trainerd.daemon.supervision.events import (
    CheckpointRequested,
    FinishReason,
    PauseRequested,
    RequestEvent,
    RestartRequested,
    ResumeRequested,
    RunDeleted,
    RunState,
    RunStateChanged,
    RunSubmitted,
    StopRequested,
)
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.supervision.turn import STOP_NOW_S, STOP_S, Turn

MAX_PENDING_SAVES = 64
"""Checkpoint requests of one run that may wait for their answer."""


def submitted(turn: Turn, event: RunSubmitted) -> None:
    """Queue a new run."""
    if event.run in turn.state.runs:
        turn.ignore(event.run, event, "there is a run of this id")
        return
    order = turn.state.submitted + 1
    turn.state = replace(turn.state, submitted=order)
    run = Run(
        id=event.run,
        name=event.name,
        order=order,
        policy=event.policy,
        request_id=event.request_id,
        recoverable_at=turn.now,
    )
    changed = RunStateChanged(run=run.id, before=None, after=run.state, reason=run.reason)
    turn.emit(Record(event=changed))
    turn.put(run)


def request(turn: Turn, event: RequestEvent) -> None:
    """Take one request about an existing run; what cannot be done now is a recorded no-op."""
    run = turn.state.runs.get(event.run)
    if run is None:
        turn.ignore(event.run, event, f"there is no run {event.run}")
        return
    if run.terminal and not isinstance(event, RunDeleted):
        turn.ignore(run.id, event, f"run {run.id} has ended: it is {run.state.value}")
        return
    match event:
        case PauseRequested():
            _pause(turn, run, event)
        case ResumeRequested():
            _resume(turn, run, event)
        case StopRequested():
            _stop(turn, run, event)
        case CheckpointRequested():
            _checkpoint(turn, run, event)
        case RestartRequested():
            _restart(turn, run, event)
        case RunDeleted():
            _delete(turn, run, event)
        case _:
            assert_never(event)


def _pause(turn: Turn, run: Run, event: PauseRequested) -> None:
    if run.stopping:
        turn.ignore(run.id, event, f"run {run.id} is stopping")
    elif run.state is RunState.QUEUED:
        turn.ignore(run.id, event, f"run {run.id} is queued: there is nothing to pause yet")
    elif not run.pausing:
        run = turn.put(replace(run, pausing=True, hold="on request"))
        turn.tell(run, Pause())


def _resume(turn: Turn, run: Run, event: ResumeRequested) -> None:
    if not run.pausing:
        turn.ignore(run.id, event, f"run {run.id} is not paused: it is {run.state.value}")
        return
    run = turn.put(replace(run, pausing=False))
    turn.tell(run, Resume())


def _stop(turn: Turn, run: Run, event: StopRequested) -> None:
    saves = event.save and (run.stop_saves or not run.stopping)
    again = run.stopping and saves == run.stop_saves
    run = turn.put(replace(run, stopping=True, stop_saves=saves, pausing=False, restarting=False))
    if run.trainer is None:
        turn.cancel_timers(run)
        turn.move(run, RunState.STOPPED, "stopped on request; no trainer was alive")
        return
    run = turn.move(run, RunState.STOPPING, "a stop was requested")
    if not again:
        # A repeated request must not put off the deadline of the first.
        turn.start_timer("stop", run, STOP_S if saves else STOP_NOW_S)
        turn.tell(run, Stop(save=saves, reason=FinishReason.STOPPED))


def _checkpoint(turn: Turn, run: Run, event: CheckpointRequested) -> None:
    if run.trainer is None or run.stopping:
        turn.ignore(run.id, event, f"run {run.id} is {run.state.value}: no trainer could save")
    elif len(run.saves) >= MAX_PENDING_SAVES:
        turn.ignore(run.id, event, f"{len(run.saves)} checkpoint requests wait already")
    elif event.request_id not in run.saves:
        run = turn.put(replace(run, saves=(*run.saves, event.request_id)))
        turn.tell(run, Save(request_id=event.request_id))


def _restart(turn: Turn, run: Run, event: RestartRequested) -> None:
    if run.stopping:
        turn.ignore(run.id, event, f"run {run.id} is stopping")
    elif run.trainer is None:
        turn.ignore(run.id, event, f"run {run.id} is {run.state.value}: it has no trainer now")
    elif not run.restarting:
        run = turn.put(replace(run, restarting=True))
        run = turn.move(run, RunState.RECOVERING, "a restart was requested")
        turn.start_timer("stop", run, STOP_S)
        turn.tell(run, Stop(save=True, reason=FinishReason.PREEMPTED))


def _delete(turn: Turn, run: Run, event: RunDeleted) -> None:
    if not run.terminal:
        turn.ignore(run.id, event, f"run {run.id} is {run.state.value}: stop it first")
    elif run.trainer is not None:
        turn.ignore(run.id, event, f"run {run.id} has ended, its process has not yet: try again")
    else:
        kept = {key: value for key, value in turn.state.runs.items() if key != run.id}
        turn.state = replace(turn.state, runs=kept)
        turn.emit(RemoveFiles(run=run.id))
