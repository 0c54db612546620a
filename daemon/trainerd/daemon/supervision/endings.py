"""How an incarnation ends: process by process, and what it is charged to.

The processes of a gang wait for one another in every step, and a survivor of a dead one may wait
for ever: as soon as one is known to fail, the others are killed at once. What they report and how
they end is then a consequence. When the last one is gone, the one cause is charged, and the next
incarnation is formed. A gang of one is no other case.

Causes have weights. What is certain was seen where it happened. A host that cannot be reached is a
better explanation than what its peers saw of it: a collective that failed, or the abort with which
JAX ends a process whose coordination service is gone.
"""

from __future__ import annotations

from trainerd.daemon.supervision.events import (
    CoordinatorFailed,
    FinishReason,
    MemberGone,
    RunState,
    TrainerExited,
    TrainerSpawnFailed,
)
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.formation import form
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.state import Ending, Run, Trainer
from trainerd.daemon.supervision.turn import Turn
from trainerd.daemon.supervision.verdicts import fail, record, recover, restart, uncharged

KILLED, CONSEQUENCE, UNREACHABLE, CERTAIN = range(4)
"""Weights of causes."""

DEVICES_S = 600.0
"""Seconds a run waits for devices that another process holds."""
DEVICES_RETRY_S = 5.0
_SIGABRT = 6


def note(
    turn: Turn, run: Run, fault: Fault, *, weight: int, host: str = "", stacks: str = ""
) -> Run:
    """Remember a cause of the incarnation's end, if it is the best one so far."""
    ending = run.ending or Ending()
    if weight > ending.weight:
        ending = ending._replace(root=fault, weight=weight, host=host, stacks=stacks)
    return turn.put(run._replace(ending=ending))


def break_up(turn: Turn, run: Run, why: str) -> None:
    """End the incarnation's processes at once, but for one that was told to and does it itself."""
    run = turn.runs[run.id]
    if run.ending is None:
        run = turn.put(run._replace(ending=Ending()))
    if not (run.terminal or run.stopping or run.restarting):
        run = turn.move(run, RunState.RECOVERING, why)
    for trainer in list(run.members.values()):
        if not trainer.asked:
            run = turn.left(run, trainer)
        elif not (trainer.killed or trainer.ending):
            run = turn.kill_one(run, trainer)
    for host, trainer in list(run.members.items()):
        if run.size > 1 and not turn.host(host).linked:
            run = out_of_reach(turn, run, trainer)
    if not run.members:
        conclude(turn, run)


def out_of_reach(turn: Turn, run: Run, trainer: Trainer) -> Run:
    """Nobody can tell whether it lives: should its host come back, it is ended there."""
    message = f"host {trainer.host or 'of the daemon'} cannot be reached"
    lost = Fault(fault_class=FaultClass.HOST_LOST, message=message, phase=trainer.phase)
    run = note(turn, run, lost, weight=UNREACHABLE, host=trainer.host)
    return turn.left(run, trainer)


def exited(turn: Turn, run: Run, trainer: Trainer, event: TrainerExited) -> None:
    """A process is gone."""
    run = _noted(turn, run, trainer, event)
    # The others of one that said that it is done end like it, in the time they have for that.
    in_order = trainer.finish is not None and not trainer.killed
    _one_less(turn, run, trainer, _how(event, trainer), in_order=in_order)


def lost(turn: Turn, run: Run, trainer: Trainer) -> None:
    """The launcher neither lists this trainer nor reports its exit."""
    event = TrainerExited(
        run=run.id, incarnation=trainer.incarnation, exit_code=-1, host=trainer.host
    )
    exited(turn, run, trainer, event)


def spawn_failed(turn: Turn, run: Run, trainer: Trainer, event: TrainerSpawnFailed) -> None:
    """A process could not be started."""
    if trainer.attached:
        turn.ignore(run.id, event, "the trainer is attached: it was started after all")
        return
    ending = run.ending or Ending()
    if ending.weight < CERTAIN and ending.unspawned is None and not trainer.killed:
        run = run._replace(ending=ending._replace(unspawned=event, host=trainer.host))
    _one_less(turn, run, trainer, f"{_on(trainer)}could not be started: {event.message}")


def unmet(turn: Turn, run: Run, trainer: Trainer, event: CoordinatorFailed) -> None:
    """The service at which a gang meets could not be started."""
    if run.size == 1 or run.rendezvous or run.ending is not None:
        turn.ignore(run.id, event, "the gang has met, or is over")
        return
    on = f" on {event.host}" if event.host else ""
    message = f"the coordination service could not be started{on}: {event.message}"
    fault = Fault(fault_class=FaultClass.CRASH, message=message, phase=Phase.SPAWN)
    run = note(turn, run, fault, weight=UNREACHABLE, host=trainer.host)
    break_up(turn, run, message)


def gone(turn: Turn, run: Run, trainer: Trainer, event: MemberGone) -> None:
    """Its host is out of reach, and the gang stands still: the others go on without it."""
    silent = f"nothing was heard of host {event.host or 'of the daemon'}"
    message = f"{silent} for {event.waited_s:.1f} s, limit {event.deadline_s:g} s"
    fault = Fault(fault_class=FaultClass.HOST_LOST, message=message, phase=trainer.phase)
    run = note(turn, run, fault, weight=UNREACHABLE, host=trainer.host)
    run = turn.left(run, trainer)
    if run.members:
        break_up(turn, run, f"{FaultClass.HOST_LOST.value}: {message}")
    else:
        conclude(turn, run)


def _one_less(turn: Turn, run: Run, trainer: Trainer, how: str, *, in_order: bool = False) -> None:
    run = turn.left(run, trainer)
    if not run.members:
        conclude(turn, run)
    elif not in_order:
        break_up(turn, run, f"the trainer {how}; the others are ended")


def _noted(turn: Turn, run: Run, trainer: Trainer, event: TrainerExited) -> Run:
    ending = run.ending or Ending()
    if not ending.how:
        ending = ending._replace(how=_how(event, trainer))
    if _went_as_asked(event, trainer):
        if ending.host == trainer.host:
            # It was suspected because there was no daemon to hear it.
            ending = ending._replace(root=None, weight=-1, stacks="")
        ending = ending._replace(preempted=True)
    elif trainer.suspected is not None:
        if ending.host == trainer.host and event.stacks:
            ending = ending._replace(stacks=event.stacks)
    elif trainer.finish is FinishReason.PREEMPTED:
        ending = ending._replace(preempted=True)
    elif trainer.decision is not None and trainer.decision.action in _ANEW:
        if ending.decision is None:
            ending = ending._replace(decision=trainer.decision, host=trainer.host)
    else:
        return note(
            turn,
            run._replace(ending=ending),
            _crash(event, trainer),
            weight=_weight(run, trainer, event),
            host=trainer.host,
        )
    return turn.put(run._replace(ending=ending))


def _went_as_asked(event: TrainerExited, trainer: Trainer) -> bool:
    """Whether it saved and went with its host, and no daemon was there to hear it say so."""
    return event.drained and event.exit_code == 0 and trainer.finish is None


_ANEW = (Action.RESTART, Action.REFORM)


def _weight(run: Run, trainer: Trainer, event: TrainerExited) -> int:
    """How good a cause an exit is: one by a signal that the launcher did not send is its own."""
    if run.size == 1:
        return CERTAIN
    if event.killed_by_launcher or (trainer.killed and not event.signal):
        return KILLED
    return CONSEQUENCE if event.signal == _SIGABRT else CERTAIN


def conclude(turn: Turn, run: Run) -> None:
    """The last process is gone: charge the cause, and say how the run goes on."""
    ending = run.ending or Ending()
    run = turn.put(run._replace(ending=None))
    if run.terminal:
        return
    if run.stopping:
        how = (
            "its trainer could not be started" if ending.unspawned else f"the trainer {ending.how}"
        )
        turn.move(run, RunState.STOPPED, f"stopped on request; {how}")
    elif ending.unspawned is not None:
        _unspawned(turn, run, ending.unspawned)
    elif run.restarting:
        run = turn.put(run._replace(restarting=False))
        run = turn.move(run, RunState.RECOVERING, f"{run.again}; the trainer {ending.how}")
        run = form(turn, run)
        if not run.members and len(turn.hosts) > 1:
            # Nothing has failed: it need not hurry, and others may have their turn.
            turn.cancel_timers(run, "wait")
            turn.move(run, RunState.QUEUED, f"{run.again}; it waits for hosts")
    elif ending.preempted and ending.weight < CERTAIN:
        asked = "the host asked the trainer to go"
        uncharged(turn, run, FaultClass.PREEMPTION, Action.RESTART, asked, host=ending.host)
        run = turn.put(run._replace(unsaved_s=0.0))
        turn.move(run, RunState.QUEUED, "preempted: the host asked the trainer to go; it resumes")
    elif ending.decision is not None:
        # Charged when it was decided: whoever died by itself since then ends with the same gang.
        restart(turn, run, ending.decision, run.reason)
    elif ending.root is not None:
        recover(turn, run, ending.root, host=ending.host, stacks=ending.stacks)


def _unspawned(turn: Turn, run: Run, event: TrainerSpawnFailed) -> None:
    where = f" on {event.host}" if event.host else ""
    fault = Fault(
        fault_class=FaultClass.CRASH,
        message=f"the trainer could not be started{where}: {event.message}",
        phase=Phase.SPAWN,
    )
    if event.devices_busy:
        _await_devices(turn, run, event, fault)
    elif event.permanent:
        decision = Decision(
            action=Action.FAIL, scope="run", reason="another try would end the same way"
        )
        run = record(turn, run, fault, decision, host=event.host)
        fail(turn, run, fault.message)
    else:
        recover(turn, run, fault, host=event.host)


def _await_devices(turn: Turn, run: Run, event: TrainerSpawnFailed, fault: Fault) -> None:
    """Whoever holds the devices is nobody's fault: the run waits for them, though not for ever."""
    since = turn.now if run.busy_since is None else run.busy_since
    waited_s = turn.now - since
    if waited_s >= DEVICES_S:
        reason = f"the devices were not free for {waited_s:.0f} s, limit {DEVICES_S:g} s"
        decision = Decision(action=Action.FAIL, scope="run", reason=reason)
        run = record(turn, run, fault, decision, host=event.host)
        fail(turn, run, f"{fault.message} — {reason}")
        return
    run = run._replace(busy_since=since)
    waits = f"waits for the devices, {waited_s:.0f} s of at most {DEVICES_S:g} s"
    run = turn.move(run, RunState.RECOVERING, f"{waits}: {event.message}")
    turn.start_timer("restart", run, DEVICES_RETRY_S)


def _crash(event: TrainerExited, trainer: Trainer) -> Fault:
    return Fault(
        fault_class=FaultClass.CRASH,
        message=f"the trainer {_how(event, trainer)}",
        detail=event.log_tail,
        phase=trainer.phase or Phase.SPAWN,
        state_intact=False,
    )


def _how(event: TrainerExited, trainer: Trainer) -> str:
    on = _on(trainer)
    if event.signal:
        by = " by the launcher" if event.killed_by_launcher else ""
        return f"{on}was killed by signal {event.signal}{by}"
    if event.exit_code < 0:
        return f"{on}is gone, and its launcher does not know how it ended"
    return f"{on}exited with code {event.exit_code}"


def _on(trainer: Trainer) -> str:
    return f"on {trainer.host} " if trainer.host else ""
