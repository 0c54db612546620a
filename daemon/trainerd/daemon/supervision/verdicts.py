"""Faults: what is decided about each, what is recorded, what is done."""

from __future__ import annotations

from dataclasses import replace

from trainerd.daemon.supervision.commands import Pause, Record, Stop, WriteIncident
from trainerd.daemon.supervision.decision import (
    SCOPES,
    charge,
    charge_supposed,
    decide,
    suppose,
)
from trainerd.daemon.supervision.events import DecisionMade, FaultRaised, FinishReason, RunState
from trainerd.daemon.supervision.faults import Decision, Fault
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.state import Run, Trainer, Trial
from trainerd.daemon.supervision.turn import EXIT_S, Turn

MILD = (Action.CONTINUE, Action.MASK, Action.SKIP)
"""Actions after which the run goes on as before; all others are incidents."""


def raised(turn: Turn, run: Run, trainer: Trainer, event: FaultRaised) -> None:
    """Take a fault that a trainer saw."""
    fault = event.fault
    if event.request_ids and run.saves:
        saves = tuple(save for save in run.saves if save not in event.request_ids)
        run = turn.put(run._replace(saves=saves))
    if event.question and trainer.decision and trainer.decision.answers == event.question:
        # Its first report came, the acknowledgement was lost: the same fault is charged once.
        turn.tell(run, trainer.decision)
        return
    over = run.terminal or run.stopping
    if not fault.awaits_decision:
        if over:
            judge(turn, run, fault)
        else:
            condemn(turn, run, trainer, fault)
        return
    if over:
        reason = f"the run is {run.state.value}: there is nothing to recover for"
        decision = Decision(action=Action.FAIL, scope="run", reason=reason)
        turn.emit(Record(event=_made(run, fault, decision)))
    else:
        run, decision = judge(turn, run, fault)
    decision = replace(decision, answers=event.question)
    run = turn.put(run._replace(trainer=trainer._replace(decision=decision)))
    turn.tell(run, decision)
    if not over:
        _carry_out(turn, run, fault, decision)


def condemn(turn: Turn, run: Run, trainer: Trainer, fault: Fault) -> None:
    """Decide about a fault with which no trainer waits, and act on the decision."""
    run, decision = judge(turn, run, fault)
    if decision.action in (Action.RESTART, Action.FAIL):
        run = turn.put(run._replace(trainer=trainer._replace(decision=decision)))
        turn.tell(run, Stop(save=False, reason=FinishReason.DECIDED))
    _carry_out(turn, run, fault, decision)


def _carry_out(turn: Turn, run: Run, fault: Fault, decision: Decision) -> None:
    match decision.action:
        case Action.PAUSE:
            run = turn.put(run._replace(pausing=True, hold=decision.reason))
            turn.tell(run, Pause())
        case Action.FAIL:
            fail(turn, run, _because(fault, decision))
        case Action.RESTART:
            turn.move(run, RunState.RECOVERING, _because(fault, decision))
            turn.start_timer("exit", run, EXIT_S)
        case Action.ROLLBACK:
            # The process lives; when it trains again the run runs again.
            turn.move(run, RunState.RECOVERING, _because(fault, decision))
        case _:
            pass  # It goes on.


def suspect(turn: Turn, run: Run, trainer: Trainer, fault: Fault) -> None:
    """Kill a trainer for a fault; its exit is charged to that fault."""
    if trainer.suspected is None:
        run = run._replace(trainer=trainer._replace(suspected=fault))
        turn.kill(run, collect_stacks=fault.fault_class is FaultClass.HANG)


def recover(turn: Turn, run: Run, fault: Fault, *, stacks: str = "") -> None:
    """The run's process is gone because of `fault`: decide, and act on the decision."""
    run, decision = judge(turn, run, fault, stacks=stacks)
    if decision.action is Action.RESTART:
        restart(turn, run, decision, _because(fault, decision))
    else:
        fail(turn, run, _because(fault, decision))


def restart(turn: Turn, run: Run, decision: Decision, reason: str) -> None:
    """Start a new process, after the decision's delay."""
    run = turn.move(run, RunState.RECOVERING, reason)
    if decision.delay_s > 0:
        turn.start_timer("restart", run, decision.delay_s)
    else:
        turn.start_trainer(run)


def fail(turn: Turn, run: Run, reason: str) -> None:
    """End the run; a process that lives on has its time to go."""
    if not run.terminal:
        turn.move(run, RunState.FAILED, reason)
    if run.trainer is not None:
        turn.start_timer("exit", run, EXIT_S)


def judge(turn: Turn, run: Run, fault: Fault, *, stacks: str = "") -> tuple[Run, Decision]:
    """Decide, charge the budgets, record the decision and what a policy on trial says."""
    before, policy = run, run.policy
    decision = decide(
        policy,
        run.budgets,
        fault,
        now=turn.now,
        trained=run.trained,
        checkpoint_age_s=turn.now - run.recoverable_at,
        slot_parts=run.slot_parts,
        spread=_spread(run) if run.budgets.cycles and not fault.handled else 0.0,
    )
    budgets = charge(policy, run.budgets, fault, decision, now=turn.now)
    run = run._replace(budgets=budgets, slot_parts=decision.slot_parts or run.slot_parts)
    run = record(turn, run, fault, decision, stacks=stacks)
    if run.trial is not None:
        trial = _tried(turn, before, run.trial, fault)
        run = turn.put(run._replace(trial=trial))
    return run, decision


def record(turn: Turn, run: Run, fault: Fault, decision: Decision, *, stacks: str = "") -> Run:
    """Record a decision; one that changes the run's course is an incident."""
    if decision.action in MILD:
        turn.emit(Record(event=_made(run, fault, decision)))
        return turn.put(run)
    number = run.incidents + 1
    turn.emit(Record(event=_made(run, fault, decision, incident=number)))
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
    return turn.put(run._replace(incidents=number))


def uncharged(turn: Turn, run: Run, fault_class: FaultClass, action: Action, message: str) -> None:
    """Record what befalls a run through no fault of its own; no budget knows of it."""
    fault = Fault(fault_class=fault_class, message=message)
    decision = Decision(action=action, scope=SCOPES[action], reason=f"{message}; not charged")
    turn.emit(Record(event=_made(run, fault, decision)))


def _made(run: Run, fault: Fault, decision: Decision, *, incident: int = 0) -> DecisionMade:
    return DecisionMade(
        run=run.id,
        incarnation=run.incarnation,
        fault=fault,
        decision=decision,
        incident=incident,
        policy_version=fault.policy_version if fault.handled else run.policy_version,
    )


def _tried(turn: Turn, run: Run, trial: Trial, fault: Fault) -> Trial:
    """Record what the policy on trial would have decided, and charge its own budgets."""
    decision = suppose(
        trial.policy,
        trial.budgets,
        fault,
        now=turn.now,
        trained=run.trained,
        checkpoint_age_s=turn.now - run.recoverable_at,
        slot_parts=run.slot_parts,
    )
    made = DecisionMade(
        run=run.id, incarnation=run.incarnation, fault=fault, decision=decision, trial=True
    )
    turn.emit(Record(event=made))
    budgets = charge_supposed(trial.policy, trial.budgets, fault, decision, now=turn.now)
    return trial._replace(budgets=budgets)


def _because(fault: Fault, decision: Decision) -> str:
    name, message, reason = fault.fault_class.value, fault.message, decision.reason
    if reason.startswith(message):
        return f"{name}: {reason}"
    ends = decision.action is Action.FAIL
    return f"{name}: {message} — {reason}" if ends else f"{name}: {message} ({reason})"


def _spread(run: Run) -> float:
    """A number from 0 to 1 that differs from run to run and from process to process (FNV-1a)."""
    mixed = 0x811C9DC5
    for character in f"{run.id}:{run.incarnation}":
        mixed = (mixed ^ ord(character)) * 0x01000193 & 0xFFFFFFFF
    return mixed / 0x100000000
