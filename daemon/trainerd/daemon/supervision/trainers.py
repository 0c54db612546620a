"""Transitions caused by trainers: their life and their end. Their faults are in `verdicts`."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from trainerd.daemon.supervision.cluster import leftover_gone
from trainerd.daemon.supervision.commands import (
    Inject,
    Pause,
    Resume,
    Save,
    SetPolicy,
    Stop,
    TakeProfile,
)
from trainerd.daemon.supervision.durability import holds, is_durable, trains
from trainerd.daemon.supervision.endings import exited, gone, spawn_failed, unmet
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    CoordinatorFailed,
    CoordinatorStarted,
    DeadlineExpired,
    Evaluated,
    FaultInjected,
    FaultRaised,
    FinishReason,
    FirstLossHeard,
    MemberGone,
    PhaseEntered,
    Profiled,
    Progressed,
    RolledBack,
    RunState,
    SlotsFixed,
    StateRestored,
    TrainerAttached,
    TrainerDetached,
    TrainerEvent,
    TrainerExited,
    TrainerFinished,
    TrainerPaused,
    TrainerResumed,
    TrainerSpawned,
    TrainerSpawnFailed,
)
from trainerd.daemon.supervision.faults import Fault, Phase
from trainerd.daemon.supervision.formation import met
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.raising import raised, suspect
from trainerd.daemon.supervision.state import Run, Trainer
from trainerd.daemon.supervision.turn import ATTACH_S, EXIT_S, Turn
from trainerd.daemon.supervision.verdicts import fail

_GANG = (CoordinatorStarted, CoordinatorFailed, MemberGone)


def trainer_event(turn: Turn, event: TrainerEvent) -> None:
    """Take one event about a trainer; one of a past incarnation is a recorded no-op."""
    run = turn.runs.get(event.run)
    if isinstance(event, TrainerExited) and leftover_gone(turn, event):
        return
    if run is None:
        turn.ignore(event.run, event, "no such run")
        return
    trainer = run.members.get(event.host)
    if trainer is None or trainer.incarnation != event.incarnation:
        now = "which is over" if event.incarnation == run.incarnation else f"now {run.incarnation}"
        turn.ignore(run.id, event, f"speaks of incarnation {event.incarnation}, {now}")
        return
    if not (trainer.asked or isinstance(event, _GANG)):
        turn.ignore(run.id, event, "nobody has asked for that process yet")
        return
    _take(turn, run, trainer, event)


def _take(turn: Turn, run: Run, trainer: Trainer, event: TrainerEvent) -> None:
    match event:
        case FaultRaised():
            raised(turn, run, trainer, event)
        case CheckpointSaved():
            _saved(turn, run, event)
        case PhaseEntered():
            _phase(turn, run, trainer, event)
        case TrainerSpawned():
            _spawned(turn, run, trainer, event)
        case TrainerSpawnFailed():
            spawn_failed(turn, run, trainer, event)
        case TrainerAttached():
            _attached(turn, run, trainer, event)
        case TrainerDetached():
            _detached(turn, run, trainer)
        case TrainerExited():
            exited(turn, run, trainer, event)
        case SlotsFixed():
            turn.put(run._replace(slots=event.slots))
        case TrainerPaused() | TrainerResumed():
            _held(turn, run, event)
        case TrainerFinished():
            _finished(turn, run, trainer, event)
        case DeadlineExpired():
            _expired(turn, run, trainer, event)
        case FaultInjected():
            _injected(turn, run, event)
        case RolledBack():
            _rolled_back(turn, run, event)
        case Progressed():
            _progressed(turn, run, event)
        case FirstLossHeard():
            if run.first_loss is None:
                turn.put(run._replace(first_loss=event.loss))
        case Profiled():
            _profiled(turn, run, event)
        case CoordinatorStarted() | CoordinatorFailed() | MemberGone():
            _of_a_gang(turn, run, trainer, event)
        case StateRestored() | Evaluated():
            pass  # Facts for people: the views keep them, no decision rests on them.
        case _:
            assert_never(event)


def _profiled(turn: Turn, run: Run, event: Profiled) -> None:
    if run.profile is not None and run.profile.request_id == event.request_id:
        turn.put(run._replace(profile=None))


def _of_a_gang(
    turn: Turn,
    run: Run,
    trainer: Trainer,
    event: CoordinatorStarted | CoordinatorFailed | MemberGone,
) -> None:
    match event:
        case CoordinatorStarted():
            met(turn, run, event)
        case CoordinatorFailed():
            unmet(turn, run, trainer, event)
        case MemberGone():
            gone(turn, run, trainer, event)


def _spawned(turn: Turn, run: Run, trainer: Trainer, event: TrainerSpawned) -> None:
    run = turn.put_member(run._replace(busy_since=None), trainer._replace(pid=event.pid))
    if trainer.killed and run.size > 1:
        # The order to kill it may have come before it was there.
        turn.kill_one(run, run.members[trainer.host])


def _attached(turn: Turn, run: Run, trainer: Trainer, event: TrainerAttached) -> None:
    trainer = trainer._replace(attached=True, phase=event.phase)
    run = turn.put_member(run._replace(busy_since=None), trainer)
    turn.cancel_timers(run, "attach", host=trainer.host)
    decision = trainer.decision
    waits = decision is not None and event.awaits == decision.answers != 0
    if not (waits and decision is not None and decision.action is Action.ROLLBACK):
        # Reports may have been lost with the last link: what the trainer says of itself counts.
        run = _situated(turn, run, trainer, event.phase, event.step)
    # Orders may have been lost with it too; each of them is harmless when repeated.
    if not (run.terminal or run.stopping):
        if run.policy_version:
            turn.tell_one(
                run, trainer, SetPolicy(message=run.policy_message, version=run.policy_version)
            )
        for armed in run.untold_injections:
            turn.tell_one(run, trainer, Inject(armed=armed))
    if waits and decision is not None:
        turn.tell_one(run, trainer, decision)
    elif trainer.ending and not run.terminal:
        turn.tell_one(run, trainer, Stop(save=False, reason=FinishReason.DECIDED))
    if run.terminal:
        if trainer.finish is None:
            turn.tell_one(run, trainer, Stop(save=False, reason=FinishReason.DECIDED))
    elif run.stopping:
        turn.tell_one(run, trainer, Stop(save=run.stop_saves, reason=FinishReason.STOPPED))
    elif run.restarting:
        turn.tell_one(run, trainer, Stop(save=True, reason=FinishReason.PREEMPTED))
    elif run.pausing:
        turn.tell_one(run, trainer, Pause())
    elif event.phase is Phase.PAUSED or run.state is RunState.PAUSED:
        turn.tell_one(run, trainer, Resume())
    if trainer.process == 0:
        for request_id in run.saves:
            turn.tell_one(run, trainer, Save(request_id=request_id))
        if run.profile is not None:
            turn.tell_one(run, trainer, TakeProfile(**run.profile._asdict()))


def _detached(turn: Turn, run: Run, trainer: Trainer) -> None:
    run = turn.put_member(run, trainer._replace(attached=False))
    if trainer.finish is None:
        turn.start_timer("attach", run, ATTACH_S, host=trainer.host)


def _phase(turn: Turn, run: Run, trainer: Trainer, event: PhaseEntered) -> None:
    # A new phase: it has gone on with the verdict it waited for, if there was one.
    decision = trainer.decision if trainer.ending else None
    trainer = trainer._replace(phase=event.phase, decision=decision)
    run = turn.put_member(run, trainer)
    _situated(turn, run, trainer, event.phase, event.step)


def _situated(turn: Turn, run: Run, trainer: Trainer, phase: Phase | None, step: int) -> Run:
    """Follow the trainer's phase: it trains, or it holds."""
    if run.terminal or run.stopping or run.restarting or trainer.ending:
        return run
    if run.size > 1 and run.ending is not None:
        return run
    if phase is Phase.STEP:
        if not run.pausing:
            run = trains(turn, run)
        resumed = run.state is RunState.PAUSED and not run.pausing
        if resumed or run.state in (RunState.STARTING, RunState.RECOVERING):
            run = turn.move(run, RunState.RUNNING, f"training since step {step}")
    elif phase is Phase.PAUSED and run.pausing:
        run = holds(turn, run)
        if run.state is not RunState.PAUSED:
            run = turn.move(run, RunState.PAUSED, f"paused at step {step}: {run.hold}")
    return run


def _held(turn: Turn, run: Run, event: TrainerPaused | TrainerResumed) -> None:
    match event:
        case TrainerPaused() if run.pausing and not (run.terminal or run.stopping):
            run = holds(turn, run)
            turn.move(run, RunState.PAUSED, f"paused at step {event.step}: {run.hold}")
        case TrainerResumed() if run.state is RunState.PAUSED:
            turn.move(run, RunState.RUNNING, f"resumed at step {event.step}, on request")
        case _:
            pass


def _rolled_back(turn: Turn, run: Run, event: RolledBack) -> None:
    # Counted when it was done: one that its trainer did not live to do may be tried again.
    budgets = run.budgets.rolled_back(event.fault_class, from_step=event.from_step, now=turn.now)
    turn.put(run._replace(budgets=budgets))


def _progressed(turn: Turn, run: Run, event: Progressed) -> None:
    if event.step > run.recoverable_step:
        trial = run.trial
        if trial is not None:
            trial = trial._replace(budgets=trial.budgets.progressed(event.step))
        budgets = run.budgets.progressed(event.step)
        turn.put(run._replace(recoverable_step=event.step, budgets=budgets, trial=trial))


def _saved(turn: Turn, run: Run, event: CheckpointSaved) -> None:
    saves = run.saves
    if saves and event.request_ids:
        saves = tuple(save for save in saves if save not in event.request_ids)
    progress = event.step > run.recoverable_step
    budgets, trial = run.budgets.saved(), run.trial
    if progress:
        budgets = budgets.progressed(event.step)
    if trial is not None:
        theirs = trial.budgets.saved()
        trial = trial._replace(budgets=theirs.progressed(event.step) if progress else theirs)
    run = turn.put(
        run._replace(
            saves=saves,
            recoverable_at=turn.now,
            unsaved_s=0.0,
            recoverable_step=event.step if progress else run.recoverable_step,
            budgets=budgets,
            trial=trial,
        )
    )
    is_durable(turn, run)


def _injected(turn: Turn, run: Run, event: FaultInjected) -> None:
    """It must not happen again at this batch, whichever process trains it next."""
    index = event.injection - 1
    if not 0 <= index < len(run.injections):
        turn.ignore(run.id, event, f"run {run.id} has no injection {event.injection}")
        return
    armed = run.injections[index]
    if event.batch not in armed.batches and not armed.spent:
        armed = replace(armed, batches=(*armed.batches, event.batch))
        injections = (*run.injections[:index], armed, *run.injections[index + 1 :])
        turn.put(run._replace(injections=injections))


def _finished(turn: Turn, run: Run, trainer: Trainer, event: TrainerFinished) -> None:
    run = turn.put_member(run, trainer._replace(finish=event.reason))
    if len(run.members) == 1 or not turn.timer_runs("exit", run):
        turn.start_timer("exit", run, EXIT_S)
    if run.terminal or (run.ending is not None and run.size > 1):
        return
    if any(other.process < trainer.process for other in run.members.values()):
        # What the first one has measured is all kept when it says so, and not before.
        return
    step = event.result.step
    match event.reason:
        case FinishReason.COMPLETED if event.durable:
            turn.move(run, RunState.COMPLETED, f"{step} steps applied, the final state is durable")
        case FinishReason.COMPLETED:
            fail(turn, run, f"the final state of step {step} could not be made durable")
        case FinishReason.STOPPED:
            newest = event.result.durable_step
            since = f"not saved since step {newest}" if newest >= 0 else "never saved"
            kept = f"saved at step {newest}" if event.durable else since
            if run.state is not RunState.STOPPING:
                run = turn.move(run, RunState.STOPPING, "the trainer stops")
            turn.move(run, RunState.STOPPED, f"stopped on request at step {step}, {kept}")
        case FinishReason.PREEMPTED | FinishReason.DECIDED:
            pass  # What follows is known at the exit.
        case _:
            assert_never(event.reason)


def _expired(turn: Turn, run: Run, trainer: Trainer, event: DeadlineExpired) -> None:
    name = event.phase.value if event.phase else "unknown"
    on = f" on {event.host}" if event.host else ""
    fault = Fault(
        fault_class=FaultClass.HANG,
        message=f"no progress for {event.waited_s:.1f} s in phase {name}{on}, "
        f"deadline {event.deadline_s:g} s",
        phase=event.phase,
    )
    suspect(turn, run, trainer, fault)
