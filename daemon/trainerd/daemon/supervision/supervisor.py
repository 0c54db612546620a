"""step(state, event, now) -> (state, commands): the whole supervisor, one event at a time.

The runtime around it keeps these duties: take one event, journal it, step, journal the records,
observe, carry out the commands in order, feed their results back as events. The state machine's
edges are `state.EDGES`; the choice of an action is `decision.decide`.
"""

from __future__ import annotations

from typing import assert_never

from trainerd.daemon.supervision import cluster, growing
from trainerd.daemon.supervision.commands import Command
from trainerd.daemon.supervision.durability import overdue, verified
from trainerd.daemon.supervision.endings import lost
from trainerd.daemon.supervision.events import (
    CheckpointsVerified,
    DaemonEnded,
    DaemonStarted,
    Event,
    FilesRemoved,
    HostDrained,
    HostJoined,
    HostLost,
    HostUndrained,
    JournalRecovered,
    LauncherAttached,
    LauncherLost,
    RunState,
    RunSubmitted,
    StandbyPrepared,
    TimerFired,
)
from trainerd.daemon.supervision.events import RequestEvent as _Request
from trainerd.daemon.supervision.events import TrainerEvent as _Trainer
from trainerd.daemon.supervision.faults import Decision, Fault
from trainerd.daemon.supervision.formation import form
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.raising import suspect
from trainerd.daemon.supervision.requests import request, submitted
from trainerd.daemon.supervision.state import Run, State
from trainerd.daemon.supervision.trainers import trainer_event
from trainerd.daemon.supervision.turn import ATTACH_S, Turn, timer_parts
from trainerd.daemon.supervision.verdicts import because, fail, record, uncharged


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
            _daemon_started(turn, event)
        case DaemonEnded():
            turn.serving = False
        case JournalRecovered():
            _journal_recovered(turn, event)
        case CheckpointsVerified():
            verified(turn, event)
        case FilesRemoved():
            if not turn.removed(event.run, event.host, memory_only=event.memory_only):
                turn.ignore(event.run, event, "nothing of it was to be removed")
        case LauncherAttached():
            cluster.launcher_attached(turn, event)
        case LauncherLost():
            cluster.launcher_lost(turn, event)
        case StandbyPrepared():
            growing.prepared(turn, event)
        case HostJoined():
            cluster.joined(turn, event)
        case HostLost():
            cluster.host_lost(turn, event)
        case HostDrained() | HostUndrained():
            cluster.drained(turn, event)
        case _:
            assert_never(event)
    if turn.unsettled:
        cluster.settle(turn)
    return turn.state(), tuple(turn.commands)


def _daemon_started(turn: Turn, event: DaemonStarted) -> None:
    """No link is up: trainers have their time to attach, the launchers theirs to list them."""
    killed, turn.serving = turn.serving, True
    cluster.unlinked(turn, event.host)
    for run in list(turn.runs.living.values()):
        if run.members and killed and not run.terminal:
            died = "the daemon was killed; training goes on without it"
            uncharged(turn, run, FaultClass.DAEMON_CRASH, Action.CONTINUE, died)
        members = {host: trainer._replace(attached=False) for host, trainer in run.members.items()}
        detached = turn.put(run._replace(members=members)) if members else run
        for host in members:
            turn.start_timer("attach", detached, ATTACH_S, host=host)


def _journal_recovered(turn: Turn, event: JournalRecovered) -> None:
    """Training went on: what its trainers could not report they report now."""
    for run in turn.runs.living.values():
        if run.members and not run.terminal:
            told = (
                f"the journal could not be written for {event.duration_s:.1f} s, "
                f"{event.refused} events were refused: {event.problem}"
            )
            uncharged(turn, run, FaultClass.JOURNAL_FULL, Action.CONTINUE, told)


def _timer(turn: Turn, event: TimerFired) -> None:
    if not turn.end_timer(event.key):
        return
    kind, run_id, incarnation, host = timer_parts(event.key)
    run = turn.runs.get(run_id)
    if run is None or run.incarnation != incarnation:
        return
    trainer = run.members.get(host)
    unlinked = not turn.host(host).linked
    match kind:
        case "restart" if not run.members and run.state is RunState.RECOVERING:
            form(turn, run)
        case "wait" if not run.members and run.state is RunState.RECOVERING:
            _given_up(turn, run)
        case "grow" | "prepare":
            growing.grow(turn, run)
        case "attach" if trainer is not None and trainer.unheard_of and unlinked:
            pass  # Nobody could start it; a launcher that comes back is asked again.
        case "attach" if trainer is not None and host != turn.local and unlinked:
            pass  # Its host is out of reach: the monitor judges by the others, if there are any.
        case "attach" if trainer is not None and not trainer.attached:
            on = f" on {host}" if host else ""
            fault = Fault(
                fault_class=FaultClass.HANG,
                message=f"the trainer{on} did not attach within {ATTACH_S:g} s",
                phase=trainer.phase,
            )
            suspect(turn, run, trainer, fault)
        case "missing" if trainer is not None:
            lost(turn, run, trainer)
        case "kill" if trainer is not None and not unlinked:
            lost(turn, run, trainer)
        case "exit" | "stop" if run.members:
            turn.kill(run, collect_stacks=True)
        case "age" if run.trainer is not None:
            overdue(turn, run, run.trainer)


def _given_up(turn: Turn, run: Run) -> None:
    """The hosts it needs did not come back."""
    message = f"fewer than {run.min_hosts} hosts for {run.wait_s:g} s"
    fault = Fault(fault_class=FaultClass.HOST_LOST, message=message)
    reason = f"{message}, limit {run.wait_s:g} s ([hosts] wait_s)"
    decision = Decision(action=Action.FAIL, scope="run", reason=reason)
    run = record(turn, run, fault, decision)
    fail(turn, run, because(fault, decision))
