"""Transitions caused by trainers: their life and their end. Their faults are in `verdicts`."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

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
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    DeadlineExpired,
    Evaluated,
    FaultInjected,
    FaultRaised,
    FinishReason,
    FirstLossHeard,
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
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.state import Run, Trainer
from trainerd.daemon.supervision.turn import ATTACH_S, EXIT_S, Turn
from trainerd.daemon.supervision.verdicts import (
    fail,
    raised,
    record,
    recover,
    restart,
    suspect,
    uncharged,
)

DEVICES_S = 600.0
"""Seconds a run waits for devices that another process holds."""
DEVICES_RETRY_S = 5.0


def trainer_event(turn: Turn, event: TrainerEvent) -> None:
    """Take one event about a trainer; one of a past incarnation is a recorded no-op."""
    run = turn.runs.get(event.run)
    if run is None:
        turn.ignore(event.run, event, "no such run")
        return
    trainer = run.trainer
    if trainer is None or trainer.incarnation != event.incarnation:
        now = "which is over" if event.incarnation == run.incarnation else f"now {run.incarnation}"
        turn.ignore(run.id, event, f"speaks of incarnation {event.incarnation}, {now}")
        return
    match event:
        case FaultRaised():
            raised(turn, run, trainer, event)
        case CheckpointSaved():
            _saved(turn, run, event)
        case PhaseEntered():
            _phase(turn, run, trainer, event)
        case TrainerSpawned():
            turn.put(run._replace(trainer=trainer._replace(pid=event.pid), busy_since=None))
        case TrainerSpawnFailed():
            _spawn_failed(turn, run, trainer, event)
        case TrainerAttached():
            _attached(turn, run, trainer, event)
        case TrainerDetached():
            run = turn.put(run._replace(trainer=trainer._replace(attached=False)))
            if trainer.finish is None:
                turn.start_timer("attach", run, ATTACH_S)
        case TrainerExited():
            _exited(turn, run, trainer, event)
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
        case StateRestored() | Evaluated():
            pass  # Facts for people: the views keep them, no decision rests on them.
        case _:
            assert_never(event)


def _profiled(turn: Turn, run: Run, event: Profiled) -> None:
    if run.profile is not None and run.profile.request_id == event.request_id:
        turn.put(run._replace(profile=None))


def _attached(turn: Turn, run: Run, trainer: Trainer, event: TrainerAttached) -> None:
    trainer = trainer._replace(attached=True, phase=event.phase)
    run = turn.put(run._replace(trainer=trainer, busy_since=None))
    turn.cancel_timers(run, "attach")
    decision = trainer.decision
    waits = decision is not None and event.awaits == decision.answers != 0
    if not (waits and decision is not None and decision.action is Action.ROLLBACK):
        # Reports may have been lost with the last link: what the trainer says of itself counts.
        run = _situated(turn, run, trainer, event.phase, event.step)
    # Orders may have been lost with it too; each of them is harmless when repeated.
    if not (run.terminal or run.stopping):
        if run.policy_version:
            turn.tell(run, SetPolicy(message=run.policy_message, version=run.policy_version))
        for armed in run.untold_injections:
            turn.tell(run, Inject(armed=armed))
    if waits and decision is not None:
        turn.tell(run, decision)
    elif trainer.ending and not run.terminal:
        turn.tell(run, Stop(save=False, reason=FinishReason.DECIDED))
    if run.terminal:
        if trainer.finish is None:
            turn.tell(run, Stop(save=False, reason=FinishReason.DECIDED))
    elif run.stopping:
        turn.tell(run, Stop(save=run.stop_saves, reason=FinishReason.STOPPED))
    elif run.restarting:
        turn.tell(run, Stop(save=True, reason=FinishReason.PREEMPTED))
    elif run.pausing:
        turn.tell(run, Pause())
    elif event.phase is Phase.PAUSED or run.state is RunState.PAUSED:
        turn.tell(run, Resume())
    for request_id in run.saves:
        turn.tell(run, Save(request_id=request_id))
    if run.profile is not None:
        turn.tell(run, TakeProfile(**run.profile._asdict()))


def _phase(turn: Turn, run: Run, trainer: Trainer, event: PhaseEntered) -> None:
    # A new phase: it has gone on with the verdict it waited for, if there was one.
    decision = trainer.decision if trainer.ending else None
    run = turn.put(run._replace(trainer=trainer._replace(phase=event.phase, decision=decision)))
    _situated(turn, run, trainer, event.phase, event.step)


def _situated(turn: Turn, run: Run, trainer: Trainer, phase: Phase | None, step: int) -> Run:
    """Follow the trainer's phase: it trains, or it holds."""
    if run.terminal or run.stopping or run.restarting or trainer.ending:
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
    run = turn.put(run._replace(trainer=trainer._replace(finish=event.reason)))
    turn.start_timer("exit", run, EXIT_S)
    if run.terminal:
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
    fault = Fault(
        fault_class=FaultClass.HANG,
        message=f"no progress for {event.waited_s:.1f} s in phase {name}, "
        f"deadline {event.deadline_s:g} s",
        phase=event.phase,
    )
    suspect(turn, run, trainer, fault)


def _spawn_failed(turn: Turn, run: Run, trainer: Trainer, event: TrainerSpawnFailed) -> None:
    if trainer.attached:
        turn.ignore(run.id, event, "the trainer is attached: it was started after all")
        return
    run = turn.gone(run)
    if run.terminal:
        return
    if run.stopping:
        turn.move(run, RunState.STOPPED, "stopped on request; its trainer could not be started")
        return
    fault = Fault(
        fault_class=FaultClass.CRASH,
        message=f"the trainer could not be started: {event.message}",
        phase=Phase.SPAWN,
    )
    if event.devices_busy:
        _await_devices(turn, run, event, fault)
        return
    if event.permanent:
        decision = Decision(
            action=Action.FAIL, scope="run", reason="another try would end the same way"
        )
        run = record(turn, run, fault, decision)
        fail(turn, run, fault.message)
        return
    recover(turn, run, fault)


def _await_devices(turn: Turn, run: Run, event: TrainerSpawnFailed, fault: Fault) -> None:
    """Whoever holds the devices is nobody's fault: the run waits for them, though not for ever."""
    since = turn.now if run.busy_since is None else run.busy_since
    waited_s = turn.now - since
    if waited_s >= DEVICES_S:
        reason = f"the devices were not free for {waited_s:.0f} s, limit {DEVICES_S:g} s"
        decision = Decision(action=Action.FAIL, scope="run", reason=reason)
        run = record(turn, run, fault, decision)
        fail(turn, run, f"{fault.message} — {reason}")
        return
    run = run._replace(busy_since=since)
    waits = f"waits for the devices, {waited_s:.0f} s of at most {DEVICES_S:g} s"
    run = turn.move(run, RunState.RECOVERING, f"{waits}: {event.message}")
    turn.start_timer("restart", run, DEVICES_RETRY_S)


def _exited(turn: Turn, run: Run, trainer: Trainer, event: TrainerExited) -> None:
    run = turn.gone(run)
    how = _how(event)
    if run.terminal:
        return
    if run.stopping:
        turn.move(run, RunState.STOPPED, f"stopped on request; the trainer {how}")
    elif run.restarting:
        run = turn.put(run._replace(restarting=False))
        run = turn.move(run, RunState.RECOVERING, f"restarted on request; the trainer {how}")
        turn.start_trainer(run)
    elif trainer.finish is FinishReason.PREEMPTED or _went_as_asked(event, trainer):
        asked = "the host asked the trainer to go"
        uncharged(turn, run, FaultClass.PREEMPTION, Action.RESTART, asked)
        run = turn.put(run._replace(unsaved_s=0.0))
        turn.move(run, RunState.QUEUED, "preempted: the host asked the trainer to go; it resumes")
    elif trainer.suspected is not None:
        recover(turn, run, trainer.suspected, stacks=event.stacks)
    elif trainer.decision is not None and trainer.decision.action is Action.RESTART:
        restart(turn, run, trainer.decision, f"{run.reason}")
    else:
        recover(turn, run, _crash(event, trainer))


def _went_as_asked(event: TrainerExited, trainer: Trainer) -> bool:
    """Whether it saved and went with its host, and no daemon was there to hear it say so."""
    return event.drained and event.exit_code == 0 and trainer.finish is None


def lost(turn: Turn, run: Run, trainer: Trainer) -> None:
    """The launcher neither lists this trainer nor reports its exit."""
    event = TrainerExited(run=run.id, incarnation=trainer.incarnation, exit_code=-1)
    _exited(turn, run, trainer, event)


def _crash(event: TrainerExited, trainer: Trainer) -> Fault:
    detail = event.log_tail
    return Fault(
        fault_class=FaultClass.CRASH,
        message=f"the trainer {_how(event)}",
        detail=detail,
        phase=trainer.phase or Phase.SPAWN,
        state_intact=False,
    )


def _how(event: TrainerExited) -> str:
    if event.signal:
        by = " by the launcher" if event.killed_by_launcher else ""
        return f"was killed by signal {event.signal}{by}"
    if event.exit_code < 0:
        return "is gone, and its launcher does not know how it ended"
    return f"exited with code {event.exit_code}"
