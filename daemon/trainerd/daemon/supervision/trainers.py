"""Transitions caused by trainers: their life, their faults, their end."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from trainerd.daemon.supervision.commands import (
    Pause,
    Record,
    Resume,
    Save,
    Stop,
    WriteIncident,
)
from trainerd.daemon.supervision.decision import decide
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    DeadlineExpired,
    DecisionMade,
    Evaluated,
    FaultRaised,
    FinishReason,
    PhaseEntered,
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


def trainer_event(turn: Turn, event: TrainerEvent) -> None:
    """Take one event about a trainer; one of a past incarnation is a recorded no-op."""
    run = turn.state.runs.get(event.run)
    if run is None:
        turn.ignore(event.run, event, "no such run")
        return
    trainer = run.trainer
    if trainer is None or trainer.incarnation != event.incarnation:
        now = "which is over" if event.incarnation == run.incarnation else f"now {run.incarnation}"
        turn.ignore(run.id, event, f"speaks of incarnation {event.incarnation}, {now}")
        return
    match event:
        case TrainerSpawned():
            turn.put(replace(run, trainer=replace(trainer, pid=event.pid)))
        case TrainerSpawnFailed():
            _spawn_failed(turn, run, trainer, event)
        case TrainerAttached():
            _attached(turn, run, trainer, event)
        case TrainerDetached():
            run = turn.put(replace(run, trainer=replace(trainer, attached=False)))
            if trainer.finish is None:
                turn.start_timer("attach", run, ATTACH_S)
        case TrainerExited():
            _exited(turn, run, trainer, event)
        case PhaseEntered():
            _phase(turn, run, trainer, event)
        case SlotsFixed():
            turn.put(replace(run, slots=event.slots))
        case CheckpointSaved():
            _saved(turn, run, event)
        case FaultRaised():
            _fault(turn, run, trainer, event)
        case TrainerPaused():
            if run.pausing and not (run.terminal or run.stopping):
                turn.move(run, RunState.PAUSED, f"paused at step {event.step}: {run.hold}")
        case TrainerResumed():
            if run.state is RunState.PAUSED:
                turn.move(run, RunState.RUNNING, f"resumed at step {event.step}, on request")
        case TrainerFinished():
            _finished(turn, run, trainer, event)
        case DeadlineExpired():
            _expired(turn, run, trainer, event)
        case StateRestored() | Evaluated():
            pass  # Facts for people: the views keep them, no decision rests on them.
        case _:
            assert_never(event)


def _attached(turn: Turn, run: Run, trainer: Trainer, event: TrainerAttached) -> None:
    run = turn.put(replace(run, trainer=replace(trainer, attached=True, phase=event.phase)))
    turn.cancel_timers(run, "attach")
    # Reports may have been lost with the last link: what the trainer says of itself counts.
    run = _situated(turn, run, trainer, event.phase, event.step)
    # Orders may have been lost with it too; each of them is harmless when repeated.
    decision = trainer.decision
    if decision is not None and event.awaits == decision.answers != 0:
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


def _phase(turn: Turn, run: Run, trainer: Trainer, event: PhaseEntered) -> None:
    # A new phase: it has gone on with the verdict it waited for, if there was one.
    decision = trainer.decision if trainer.ending else None
    run = turn.put(replace(run, trainer=replace(trainer, phase=event.phase, decision=decision)))
    _situated(turn, run, trainer, event.phase, event.step)


def _situated(turn: Turn, run: Run, trainer: Trainer, phase: Phase | None, step: int) -> Run:
    """Follow the trainer's phase: it trains, or it holds."""
    if run.terminal or run.stopping or run.restarting or trainer.ending:
        return run
    if phase is Phase.STEP:
        run = turn.put(replace(run, trained=True))
        resumed = run.state is RunState.PAUSED and not run.pausing
        if resumed or run.state in (RunState.STARTING, RunState.RECOVERING):
            run = turn.move(run, RunState.RUNNING, f"training since step {step}")
    elif phase is Phase.PAUSED and run.pausing and run.state is not RunState.PAUSED:
        run = turn.move(run, RunState.PAUSED, f"paused at step {step}: {run.hold}")
    return run


def _saved(turn: Turn, run: Run, event: CheckpointSaved) -> None:
    saves = tuple(save for save in run.saves if save not in event.request_ids)
    run = replace(run, saves=saves, recoverable_at=turn.now, budgets=run.budgets.saved())
    if event.step > run.recoverable_step:
        run = replace(run, recoverable_step=event.step, budgets=run.budgets.progressed())
    turn.put(run)


def _fault(turn: Turn, run: Run, trainer: Trainer, event: FaultRaised) -> None:
    saves = tuple(save for save in run.saves if save not in event.request_ids)
    run = turn.put(replace(run, saves=saves))
    fault = event.fault
    if event.question and trainer.decision and trainer.decision.answers == event.question:
        # Its first report came, the acknowledgement was lost: the same fault is charged once.
        turn.tell(run, trainer.decision)
        return
    over = run.terminal or run.stopping
    if over and fault.awaits_decision:
        reason = f"the run is {run.state.value}: there is nothing to recover for"
        decision = Decision(action=Action.FAIL, scope="run", reason=reason)
        made = DecisionMade(run=run.id, incarnation=run.incarnation, fault=fault, decision=decision)
        turn.emit(Record(event=made))
    else:
        decision = _judge(turn, run, fault)
    run = turn.state.runs[run.id]
    if fault.awaits_decision:
        decision = replace(decision, answers=event.question)
    decided = replace(trainer, decision=decision)
    if fault.awaits_decision:
        run = turn.put(replace(run, trainer=decided))
        turn.tell(run, decision)
    elif decided.ending and not over:
        run = turn.put(replace(run, trainer=decided))
        turn.tell(run, Stop(save=False, reason=FinishReason.DECIDED))
    if over:
        return
    match decision.action:
        case Action.PAUSE:
            run = turn.put(replace(run, pausing=True, hold=decision.reason))
            turn.tell(run, Pause())
        case Action.FAIL:
            _fail(turn, run, f"{fault.fault_class.value}: {fault.message} — {decision.reason}")
        case Action.RESTART:
            turn.move(run, RunState.RECOVERING, _because(fault, decision))
            turn.start_timer("exit", run, EXIT_S)
        case _:
            pass  # It goes on.


def _finished(turn: Turn, run: Run, trainer: Trainer, event: TrainerFinished) -> None:
    run = turn.put(replace(run, trainer=replace(trainer, finish=event.reason)))
    turn.start_timer("exit", run, EXIT_S)
    if run.terminal:
        return
    step = event.result.step
    match event.reason:
        case FinishReason.COMPLETED if event.durable:
            turn.move(run, RunState.COMPLETED, f"{step} steps applied, the final state is durable")
        case FinishReason.COMPLETED:
            _fail(turn, run, f"the final state of step {step} could not be made durable")
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


def suspect(turn: Turn, run: Run, trainer: Trainer, fault: Fault) -> None:
    """Kill a trainer for a fault; its exit is charged to that fault."""
    if trainer.suspected is None:
        run = replace(run, trainer=replace(trainer, suspected=fault))
        turn.kill(run, collect_stacks=fault.fault_class is FaultClass.HANG)


def _spawn_failed(turn: Turn, run: Run, trainer: Trainer, event: TrainerSpawnFailed) -> None:
    if trainer.attached:
        turn.ignore(run.id, event, "the trainer is attached: it was started after all")
        return
    run = turn.put(replace(run, trainer=None, saves=()))
    turn.cancel_timers(run)
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
    if event.permanent:
        decision = Decision(
            action=Action.FAIL, scope="run", reason="another try would end the same way"
        )
        run = _record(turn, run, fault, decision)
        _fail(turn, run, fault.message)
        return
    recover(turn, run, fault)


def _exited(turn: Turn, run: Run, trainer: Trainer, event: TrainerExited) -> None:
    run = turn.put(replace(run, trainer=None, saves=()))
    turn.cancel_timers(run)
    how = _how(event)
    if run.terminal:
        return
    if run.stopping:
        turn.move(run, RunState.STOPPED, f"stopped on request; the trainer {how}")
    elif run.restarting:
        run = turn.put(replace(run, restarting=False))
        run = turn.move(run, RunState.RECOVERING, f"restarted on request; the trainer {how}")
        turn.start_trainer(run)
    elif trainer.finish is FinishReason.PREEMPTED:
        turn.move(run, RunState.QUEUED, "preempted: the host asked the trainer to go; it resumes")
    elif trainer.suspected is not None:
        recover(turn, run, trainer.suspected, stacks=event.stacks)
    elif trainer.decision is not None and trainer.decision.action is Action.RESTART:
        _restart(turn, run, trainer.decision, f"{run.reason}")
    else:
        recover(turn, run, _crash(event, trainer))


def recover(turn: Turn, run: Run, fault: Fault, *, stacks: str = "") -> None:
    """The run's process is gone because of `fault`: decide, and act on the decision."""
    decision = _judge(turn, run, fault, stacks=stacks)
    run = turn.state.runs[run.id]
    if decision.action is Action.RESTART:
        _restart(turn, run, decision, _because(fault, decision))
    else:
        _fail(turn, run, f"{fault.fault_class.value}: {fault.message} — {decision.reason}")


def lost(turn: Turn, run: Run, trainer: Trainer) -> None:
    """The launcher neither lists this trainer nor reports its exit."""
    event = TrainerExited(run=run.id, incarnation=trainer.incarnation, exit_code=-1)
    _exited(turn, run, trainer, event)


def _judge(turn: Turn, run: Run, fault: Fault, *, stacks: str = "") -> Decision:
    """Decide, record the decision, charge the budgets."""
    age_s = turn.now - run.recoverable_at
    decision = decide(
        run.policy,
        run.budgets,
        fault,
        now=turn.now,
        trained=run.trained,
        checkpoint_age_s=age_s,
    )
    budgets = run.budgets.charged(fault, run.policy.rule(fault.fault_class), now=turn.now)
    if decision.action is Action.RESTART:
        budgets = budgets.restarted()
    run = turn.put(replace(run, budgets=budgets))
    _record(turn, run, fault, decision, stacks=stacks)
    return decision


def _restart(turn: Turn, run: Run, decision: Decision, reason: str) -> None:
    run = turn.move(run, RunState.RECOVERING, reason)
    if decision.delay_s > 0:
        turn.start_timer("restart", run, decision.delay_s)
    else:
        turn.start_trainer(run)


def _fail(turn: Turn, run: Run, reason: str) -> None:
    if not run.terminal:
        turn.move(run, RunState.FAILED, reason)
    if run.trainer is not None:
        turn.start_timer("exit", run, EXIT_S)


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


def _because(fault: Fault, decision: Decision) -> str:
    return f"{fault.fault_class.value}: {fault.message} ({decision.reason})"


def _record(turn: Turn, run: Run, fault: Fault, decision: Decision, *, stacks: str = "") -> Run:
    """Record a decision; one that changes the run's course is an incident."""
    number = 0
    if decision.action not in (Action.CONTINUE, Action.MASK, Action.SKIP):
        number = run.incidents + 1
        run = turn.put(replace(run, incidents=number))
    made = DecisionMade(
        run=run.id,
        incarnation=run.incarnation,
        fault=fault,
        decision=decision,
        incident=number,
    )
    turn.emit(Record(event=made))
    if number:
        turn.emit(
            WriteIncident(
                run=run.id,
                incarnation=run.incarnation,
                number=number,
                fault=fault,
                decision=decision,
                stacks=stacks,
            )
        )
    return run
