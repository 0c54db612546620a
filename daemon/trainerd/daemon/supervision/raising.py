"""What is done about a fault that a trainer raised, or is suspected of."""

from __future__ import annotations

from dataclasses import replace

from trainerd.daemon.supervision.commands import Pause, Record, Stop
from trainerd.daemon.supervision.endings import CERTAIN, CONSEQUENCE, break_up, note
from trainerd.daemon.supervision.events import FaultRaised, FinishReason, RunState
from trainerd.daemon.supervision.faults import Decision, Fault
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.state import Run, Trainer
from trainerd.daemon.supervision.turn import EXIT_S, Turn
from trainerd.daemon.supervision.verdicts import because, fail, judge, made, uncharged


def raised(turn: Turn, run: Run, trainer: Trainer, event: FaultRaised) -> None:
    """Take a fault that a trainer saw."""
    fault = replace(event.fault, host=trainer.host) if trainer.host else event.fault
    if event.request_ids and run.saves:
        saves = tuple(save for save in run.saves if save not in event.request_ids)
        run = turn.put(run._replace(saves=saves))
    if event.question and trainer.decision and trainer.decision.answers == event.question:
        # Its first report came, the acknowledgement was lost: the same fault is charged once.
        turn.tell_one(run, trainer, trainer.decision)
        return
    over = run.terminal or run.stopping
    if run.size > 1 and not over and not fault.handled:
        if run.ending is not None or fault.fault_class is FaultClass.PEER_LOST:
            _consequence(turn, run, trainer, fault)
            return
        answered = _answered(run, trainer, fault)
        if answered is not None:
            _answer(turn, run, trainer, event, answered)
            return
    if not fault.awaits_decision:
        if over:
            judge(turn, run, fault, host=trainer.host)
        else:
            condemn(turn, run, trainer, fault)
        return
    if over:
        reason = f"the run is {run.state.value}: there is nothing to recover for"
        decision = Decision(action=Action.FAIL, scope="run", reason=reason)
        turn.emit(Record(event=made(run, fault, decision, host=trainer.host)))
    else:
        run, decision = judge(turn, run, fault, host=trainer.host)
    run = _answer(turn, run, trainer, event, decision)
    if not over:
        _carry_out(turn, run, fault, decision)


def condemn(turn: Turn, run: Run, trainer: Trainer, fault: Fault) -> None:
    """Decide about a fault with which no trainer waits, and act on the decision."""
    run, decision = judge(turn, run, fault, host=trainer.host)
    if decision.action in (Action.RESTART, Action.FAIL):
        run = turn.put_member(run, trainer._replace(decision=decision))
        turn.tell_one(run, trainer, Stop(save=False, reason=FinishReason.DECIDED))
    _carry_out(turn, run, fault, decision)


def _answer(turn: Turn, run: Run, trainer: Trainer, event: FaultRaised, decision: Decision) -> Run:
    decision = replace(decision, answers=event.question)
    trainer = trainer._replace(decision=decision, about=event.fault.root)
    run = turn.put_member(run, trainer)
    turn.tell_one(run, trainer, decision)
    return run


def _answered(run: Run, trainer: Trainer, fault: Fault) -> Decision | None:
    """What was decided about this fault when another process of the gang asked about it."""
    if not fault.awaits_decision:
        return None
    for other in run.members.values():
        if other.host != trainer.host and other.decision and other.about == fault.root:
            return other.decision
    return None


def _consequence(turn: Turn, run: Run, trainer: Trainer, fault: Fault) -> None:
    """Another process failed first, or is about to be found to have: nothing is charged here."""
    if run.ending is None:
        run = note(turn, run, fault, weight=CONSEQUENCE, host=trainer.host)
        break_up(turn, run, f"{fault.fault_class.value}: {fault.message}")
    else:
        told = f"{fault.fault_class.value} after another process had failed: {fault.message}"
        # The restart is the other one's: it must not be counted twice.
        uncharged(turn, run, FaultClass.PEER_LOST, Action.CONTINUE, told, host=trainer.host)


def _carry_out(turn: Turn, run: Run, fault: Fault, decision: Decision) -> None:
    match decision.action:
        case Action.PAUSE:
            run = turn.put(run._replace(pausing=True, hold=decision.reason))
            turn.tell(run, Pause())
        case Action.FAIL:
            fail(turn, run, because(fault, decision))
            _end_the_others(turn, run, because(fault, decision))
        case Action.RESTART | Action.REFORM:
            run = turn.move(run, RunState.RECOVERING, because(fault, decision))
            turn.start_timer("exit", run, EXIT_S)
            _end_the_others(turn, run, because(fault, decision))
        case Action.ROLLBACK:
            # The process lives; when it trains again the run runs again.
            turn.move(run, RunState.RECOVERING, because(fault, decision))
        case _:
            pass  # It goes on.


def _end_the_others(turn: Turn, run: Run, why: str) -> None:
    """The one that asked ends by itself; the others would wait for it for ever."""
    run = turn.runs[run.id]
    if len(run.members) > 1:
        break_up(turn, run, why)


def suspect(turn: Turn, run: Run, trainer: Trainer, fault: Fault) -> None:
    """Kill a trainer for a fault; its exit is charged to that fault."""
    if trainer.suspected is None:
        run = note(turn, run, fault, weight=CERTAIN, host=trainer.host)
        if trainer.asked:
            stacks = fault.fault_class is FaultClass.HANG
            suspected = trainer._replace(suspected=fault)
            run = turn.kill_one(run, suspected, collect_stacks=stacks)
        if len(run.members) > 1:
            break_up(turn, run, f"{fault.fault_class.value}: {fault.message}")
