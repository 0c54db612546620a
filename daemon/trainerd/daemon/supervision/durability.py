"""What a run's durable checkpoints tell: how old the newest is, and which are none any more.

Where `checkpoint.on_repeated_failure` acts on `max_age_s`, that is judged whenever a save fails,
and by the clock as well: a save that does not end never fails. The clock runs while the run trains,
and begins anew with each durable checkpoint.
"""

from __future__ import annotations

from trainerd.daemon.supervision.events import CheckpointsVerified, RejectedCheckpoint
from trainerd.daemon.supervision.events.verification import DAMAGED
from trainerd.daemon.supervision.faults import Fault
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.state import Run, Trainer
from trainerd.daemon.supervision.turn import Turn
from trainerd.daemon.supervision.verdicts import condemn, judge

GRACE_S = 60.0
"""Seconds a process that has just begun to train has to save before it is too late, or to report
what it has saved while nobody heard it."""


def trains(turn: Turn, run: Run) -> Run:
    """The run trains: the age of its newest durable checkpoint rises, and is watched."""
    trainer = run.trainer
    if trainer is not None and not trainer.trains:
        # Before anything was trained nothing could be durable.
        began = turn.now - run.unsaved_s
        trainer = trainer._replace(trains=True)
        run = turn.put(run._replace(trainer=trainer, trained=True, recoverable_at=began))
    limit_s = _limit_s(run)
    if limit_s and not turn.timer_runs("age", run):
        left_s = limit_s - (turn.now - run.recoverable_at)
        turn.start_timer("age", run, max(left_s, min(limit_s, GRACE_S)))
    return run


def holds(turn: Turn, run: Run) -> Run:
    """The run holds: it grows no older meanwhile."""
    turn.cancel_timers(run, "age")
    trainer = run.trainer
    if trainer is None or not trainer.trains:
        return run
    unsaved_s = turn.now - run.recoverable_at
    return turn.put(run._replace(trainer=trainer._replace(trains=False), unsaved_s=unsaved_s))


def is_durable(turn: Turn, run: Run) -> None:
    """A checkpoint is."""
    if turn.timer_runs("age", run):
        turn.start_timer("age", run, _limit_s(run))


def overdue(turn: Turn, run: Run, trainer: Trainer) -> None:
    """The time is over in which there had to be one, whether saves failed or did not end."""
    goes_on = not (trainer.ending or run.terminal or run.stopping or run.restarting or run.pausing)
    if not (trainer.attached and goes_on):
        # Nobody knows what it has saved, or it does not train on: it is watched when it does.
        return
    age_s = turn.now - run.recoverable_at
    if age_s < _limit_s(run):
        turn.start_timer("age", run, _limit_s(run) - age_s)
        return
    fault = Fault(
        fault_class=FaultClass.CHECKPOINT_SAVE_FAILED,
        message=f"there was no durable checkpoint for {age_s:.0f} s of training",
        suggestion="look at the failed saves, or at what keeps the save in flight from its end",
        phase=trainer.phase,
        reason="timeout",
    )
    condemn(turn, run, trainer, fault)


def verified(turn: Turn, event: CheckpointsVerified) -> None:
    """Take what was found: training goes on, whatever it is."""
    run = turn.runs.get(event.run)
    if run is None:
        turn.ignore(event.run, event, "no such run")
        return
    for each in event.rejected:
        run, _ = judge(turn, run, _fault(each))


def _fault(rejected: RejectedCheckpoint) -> Fault:
    damaged = rejected.reason == DAMAGED
    which = f"checkpoint of step {rejected.step}"
    if rejected.step < 0:
        which = f"directory of checkpoints {rejected.path}"
    what = "is damaged" if damaged else "cannot be read, and is left as it is"
    kept = f"; kept as {rejected.path}" if damaged else ""
    return Fault(
        fault_class=FaultClass.CHECKPOINT_CORRUPT,
        message=f"{which} {what} ({rejected.problem}){kept}",
        suggestion="look at the device below it and at the kernel's log",
        step=max(rejected.step, 0),
        reason=rejected.reason,
    )


def _limit_s(run: Run) -> float:
    """Seconds without a durable checkpoint that are too many; 0: any number will do."""
    policy = run.policy
    return 0.0 if policy.checkpoint_action is Action.CONTINUE else policy.max_checkpoint_age_s
