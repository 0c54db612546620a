"""step(state, event, now) -> (state, commands): the whole supervisor, one event at a time.

The runtime around it keeps these duties: take one event, journal it, step, journal the records,
observe, carry out the commands in order, feed their results back as events. The state machine's
edges are `state.EDGES`; the choice of an action is `decision.decide`.
"""

from __future__ import annotations

from typing import assert_never

from trainerd.daemon.supervision.commands import Command, KillTrainer, RemoveFiles
from trainerd.daemon.supervision.durability import overdue, verified
from trainerd.daemon.supervision.events import (
    CheckpointsVerified,
    DaemonEnded,
    DaemonStarted,
    Event,
    FilesRemoved,
    JournalRecovered,
    LauncherAttached,
    LauncherLost,
    LiveTrainer,
    RunState,
    RunSubmitted,
    TimerFired,
)
from trainerd.daemon.supervision.events import RequestEvent as _Request
from trainerd.daemon.supervision.events import TrainerEvent as _Trainer
from trainerd.daemon.supervision.faults import Fault
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.requests import request, submitted
from trainerd.daemon.supervision.state import Run, State, Trainer
from trainerd.daemon.supervision.trainers import lost, trainer_event
from trainerd.daemon.supervision.turn import ATTACH_S, MISSING_S, Turn
from trainerd.daemon.supervision.verdicts import suspect, uncharged


def step(state: State, event: Event, *, now: float) -> tuple[State, tuple[Command, ...]]:
    """Take one event at time `now` (monotonic seconds); return the next state and the commands."""
    turn = Turn(state, now)
    match event:
        case _ if isinstance(event, _Trainer):
            trainer_event(turn, event)
        case TimerFired():
            _timer(turn, event)
        case _ if isinstance(event, _Request):
            request(turn, event)
        case RunSubmitted():
            submitted(turn, event)
        case DaemonStarted():
            _daemon_started(turn)
        case DaemonEnded():
            turn.serving = False
        case JournalRecovered():
            _journal_recovered(turn, event)
        case CheckpointsVerified():
            verified(turn, event)
        case FilesRemoved():
            if not turn.removed(event.run, memory_only=event.memory_only):
                turn.ignore(event.run, event, "nothing of it was to be removed")
        case LauncherAttached():
            _launcher_attached(turn, event)
        case LauncherLost():
            turn.launcher = None
        case _:
            assert_never(event)
    if turn.unsettled and turn.launcher is not None:
        _schedule(turn)
    return turn.state(), tuple(turn.commands)


def _schedule(turn: Turn) -> None:
    """Give the host's devices to the run that waits longest."""
    waiting: Run | None = None
    for run in turn.runs.living.values():
        if run.state is RunState.QUEUED:
            if waiting is None or run.order < waiting.order:
                waiting = run
        elif run.holds_devices:
            return
    if waiting is not None:
        run = turn.move(waiting, RunState.STARTING, "its trainer is being started")
        turn.start_trainer(run)


def _daemon_started(turn: Turn) -> None:
    """No link is up: trainers have their time to attach, the launcher its to list them."""
    killed, turn.serving = turn.serving, True
    turn.launcher = None
    for run in list(turn.runs.living.values()):
        if run.trainer is not None:
            if killed and not run.terminal:
                died = "the daemon was killed; training goes on without it"
                uncharged(turn, run, FaultClass.DAEMON_CRASH, Action.CONTINUE, died)
            detached = turn.put(run._replace(trainer=run.trainer._replace(attached=False)))
            turn.start_timer("attach", detached, ATTACH_S)


def _journal_recovered(turn: Turn, event: JournalRecovered) -> None:
    """Training went on: what its trainers could not report they report now."""
    for run in turn.runs.living.values():
        if run.trainer is not None and not run.terminal:
            told = (
                f"the journal could not be written for {event.duration_s:.1f} s, "
                f"{event.refused} events were refused: {event.problem}"
            )
            uncharged(turn, run, FaultClass.JOURNAL_FULL, Action.CONTINUE, told)


def _launcher_attached(turn: Turn, event: LauncherAttached) -> None:
    turn.launcher, turn.unsettled = event.instance, True
    alive = {(live.run, live.incarnation): live for live in event.trainers}
    for run in list(turn.runs.living.values()):
        live = alive.pop((run.id, run.incarnation), None)
        if run.trainer is not None:
            _found(turn, run, run.trainer, live)
        elif live is not None:
            _kill_leftover(turn, run.id, run.incarnation)
            if run.state is RunState.RECOVERING:
                # The devices are free once it is gone.
                turn.start_timer("restart", run, MISSING_S)
        elif run.state is RunState.RECOVERING and not turn.timer_runs("restart", run):
            turn.start_trainer(run)
    for run_id, incarnation in alive:
        _kill_leftover(turn, run_id, incarnation)
    for run_id, memory_only in turn.removals.items():
        turn.emit(RemoveFiles(run=run_id, memory_only=memory_only))


def _found(turn: Turn, run: Run, trainer: Trainer, live: LiveTrainer | None) -> None:
    """The launcher lists the run's trainer, or does not."""
    if live is not None:
        run = turn.put(run._replace(trainer=trainer._replace(pid=live.pid)))
        turn.cancel_timers(run, "missing")
        if trainer.killed:
            turn.kill(run)
        elif not trainer.attached and not turn.timer_runs("attach", run):
            turn.start_timer("attach", run, ATTACH_S)
    elif trainer.unheard_of and not (run.stopping or run.terminal):
        # The order to start it was lost with an earlier link, or with an earlier daemon.
        turn.ask_for_trainer(run)
    else:
        # Its exit record may be on the way behind this greeting.
        turn.start_timer("missing", run, MISSING_S)


def _timer(turn: Turn, event: TimerFired) -> None:
    if not turn.end_timer(event.key):
        return
    kind, run_id, incarnation = event.key.split(":")
    run = turn.runs.get(run_id)
    if run is None or run.incarnation != int(incarnation):
        return
    trainer = run.trainer
    match kind:
        case "restart" if trainer is None and run.state is RunState.RECOVERING:
            turn.start_trainer(run)
        case "attach" if trainer is not None and trainer.unheard_of and _no_launcher(turn):
            pass  # Nobody could start it; a launcher that comes back is asked again.
        case "attach" if trainer is not None and not trainer.attached:
            fault = Fault(
                fault_class=FaultClass.HANG,
                message=f"the trainer did not attach within {ATTACH_S:g} s",
                phase=trainer.phase,
            )
            suspect(turn, run, trainer, fault)
        case "missing" if trainer is not None:
            lost(turn, run, trainer)
        case "kill" if trainer is not None and not _no_launcher(turn):
            lost(turn, run, trainer)
        case "exit" | "stop" if trainer is not None:
            turn.kill(run, collect_stacks=True)
        case "age" if trainer is not None:
            overdue(turn, run, trainer)


def _no_launcher(turn: Turn) -> bool:
    return turn.launcher is None


def _kill_leftover(turn: Turn, run: str, incarnation: int) -> None:
    turn.emit(KillTrainer(run=run, incarnation=incarnation, grace_s=0.0))
