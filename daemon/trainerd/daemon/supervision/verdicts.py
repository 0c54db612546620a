"""Faults: what is decided about each, what is recorded, how a run goes on or ends."""

from __future__ import annotations

from dataclasses import replace

from trainerd.daemon.supervision.budget import account
from trainerd.daemon.supervision.commands import Record, WriteIncident
from trainerd.daemon.supervision.decision import (
    SCOPES,
    charge,
    charge_supposed,
    decide,
    suppose,
)
from trainerd.daemon.supervision.events import DecisionMade, RunState
from trainerd.daemon.supervision.faults import Decision, Fault
from trainerd.daemon.supervision.formation import form, places
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.state import Run, Trial
from trainerd.daemon.supervision.turn import EXIT_S, Turn

MILD = (Action.CONTINUE, Action.MASK, Action.SKIP)
"""Actions after which the run goes on as before; all others are incidents."""


def recover(turn: Turn, run: Run, fault: Fault, *, host: str = "", stacks: str = "") -> None:
    """The run's processes are gone for `fault` on `host`: decide, and act on the decision."""
    if host:
        fault = replace(fault, host=host)
    run, decision = judge(turn, run, fault, host=host, stacks=stacks)
    if decision.action is Action.REFORM and spent(run, fault, turn.now):
        run = turn.put(run._replace(without=(*run.without, host)))
    if decision.action in (Action.RESTART, Action.REFORM):
        restart(turn, run, decision, because(fault, decision))
    else:
        fail(turn, run, because(fault, decision))


def spent(run: Run, fault: Fault, now: float) -> bool:
    """Whether the fault's account is overdrawn."""
    rule = run.policy.rule(fault.fault_class)
    return run.budgets.used(account(fault), window_s=rule.window_s, now=now) > rule.limit


def restart(turn: Turn, run: Run, decision: Decision, reason: str) -> None:
    """Start new processes, after the decision's delay."""
    run = turn.move(run, RunState.RECOVERING, reason)
    if decision.delay_s > 0:
        turn.start_timer("restart", run, decision.delay_s)
    else:
        form(turn, run)


def fail(turn: Turn, run: Run, reason: str) -> None:
    """End the run; processes that live on have their time to go."""
    if not run.terminal:
        run = turn.move(run, RunState.FAILED, reason)
    if run.members:
        turn.start_timer("exit", run, EXIT_S)


def judge(
    turn: Turn, run: Run, fault: Fault, *, host: str = "", stacks: str = ""
) -> tuple[Run, Decision]:
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
        spare=_spare(turn, run, fault) if fault.host else False,
    )
    budgets = charge(policy, run.budgets, fault, decision, now=turn.now)
    run = run._replace(budgets=budgets, slot_parts=decision.slot_parts or run.slot_parts)
    run = record(turn, run, fault, decision, host=host, stacks=stacks)
    if run.trial is not None:
        trial = _tried(turn, before, run.trial, fault)
        run = turn.put(run._replace(trial=trial))
    return run, decision


def record(
    turn: Turn, run: Run, fault: Fault, decision: Decision, *, host: str = "", stacks: str = ""
) -> Run:
    """Record a decision; one that changes the run's course is an incident."""
    if decision.action in MILD:
        turn.emit(Record(event=made(run, fault, decision, host=host)))
        return turn.put(run)
    number = run.incidents + 1
    turn.emit(Record(event=made(run, fault, decision, host=host, incident=number)))
    turn.emit(
        WriteIncident(
            run=run.id,
            incarnation=run.incarnation,
            number=number,
            fault=fault,
            decision=decision,
            stacks=stacks,
            host=host,
        )
    )
    return turn.put(run._replace(incidents=number))


def uncharged(
    turn: Turn, run: Run, fault_class: FaultClass, action: Action, message: str, *, host: str = ""
) -> None:
    """Record what befalls a run through no fault of its own; no budget knows of it."""
    fault = Fault(fault_class=fault_class, message=message)
    decision = Decision(action=action, scope=SCOPES[action], reason=f"{message}; not charged")
    turn.emit(Record(event=made(run, fault, decision, host=host)))


def made(
    run: Run, fault: Fault, decision: Decision, *, host: str = "", incident: int = 0
) -> DecisionMade:
    """The record of a decision."""
    return DecisionMade(
        run=run.id,
        incarnation=run.incarnation,
        fault=fault,
        decision=decision,
        incident=incident,
        policy_version=fault.policy_version if fault.handled else run.policy_version,
        host=host,
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
    tried = DecisionMade(
        run=run.id, incarnation=run.incarnation, fault=fault, decision=decision, trial=True
    )
    turn.emit(Record(event=tried))
    budgets = charge_supposed(trial.policy, trial.budgets, fault, decision, now=turn.now)
    return trial._replace(budgets=budgets)


def because(fault: Fault, decision: Decision) -> str:
    """Why a run goes on or ends, in one sentence."""
    name, message, reason = fault.fault_class.value, fault.message, decision.reason
    if reason.startswith(message):
        return f"{name}: {reason}"
    ends = decision.action is Action.FAIL
    return f"{name}: {message} — {reason}" if ends else f"{name}: {message} ({reason})"


def _spare(turn: Turn, run: Run, fault: Fault) -> bool:
    without = run._replace(without=(*run.without, fault.host))
    return bool(places(turn, without))


def _spread(run: Run) -> float:
    """A number from 0 to 1 that differs from run to run and from process to process (FNV-1a)."""
    mixed = 0x811C9DC5
    for character in f"{run.id}:{run.incarnation}":
        mixed = (mixed ^ ord(character)) * 0x01000193 & 0xFFFFFFFF
    return mixed / 0x100000000
