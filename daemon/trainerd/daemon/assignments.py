"""What a trainer process is told when it starts."""

from __future__ import annotations

from trainerd.daemon import codec
from trainerd.daemon.supervision.commands import StartTrainer
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.views import Views
from trainerd.v1 import launcher_pb2


def assignment_of(
    command: StartTrainer, run: Run, views: Views, *, token: str, attach_address: str
) -> launcher_pb2.Assignment:
    """The assignment of this incarnation; what only the launcher knows it fills in itself."""
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
    )
    assignment.spec.policy.CopyFrom(views.policy(run))
    for armed in run.injections:
        if not armed.spent:
            codec.fill(assignment.injections.add(), armed)
    return assignment
