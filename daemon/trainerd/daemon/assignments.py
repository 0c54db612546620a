"""What a trainer process is told when it starts."""

from __future__ import annotations

from trainerd.daemon import codec
from trainerd.daemon.supervision.commands import StartTrainer
from trainerd.daemon.supervision.policy import FaultClass
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.views import Views
from trainerd.v1 import launcher_pb2


def between_crashes_s(run: Run, now: float) -> float:
    """Mean seconds between the run's crashes, over the window of its policy; 0: there was none."""
    window_s = run.policy.rule(FaultClass.CRASH).window_s
    crashes = run.budgets.used(FaultClass.CRASH, window_s=window_s, now=now)
    return window_s / crashes if crashes else 0.0


def assignment_of(
    command: StartTrainer, run: Run, views: Views, *, now: float, token: str, attach_address: str
) -> launcher_pb2.Assignment:
    """The assignment of this incarnation; what only the launcher knows it fills in itself."""
    known_step, known_checkpoint = views.checkpoint(command.run)
    assignment = launcher_pb2.Assignment(
        run=command.run,
        incarnation=command.incarnation,
        spec=views.spec(command.run),
        slots=command.slots,
        slot_parts=command.slot_parts,
        attach_address=attach_address,
        token=token,
        restore_directories=views.restore_directories(command.run),
        ledger=views.ledger(command.run),
        policy_version=run.policy_version,
        mean_time_between_crashes_s=between_crashes_s(run, now),
        known_checkpoint=known_checkpoint,
        known_step=max(known_step, 0),
        reached_step=views.reached(command.run),
    )
    assignment.spec.policy.CopyFrom(views.policy(run))
    for armed in run.injections:
        if not armed.spent:
            codec.fill(assignment.injections.add(), armed)
    return assignment
