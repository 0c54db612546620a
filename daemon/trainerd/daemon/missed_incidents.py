"""Incidents that an earlier daemon decided on and did not live to have kept.

The decision is journalled before the incident is written: a daemon that dies in between leaves a
number without a directory. Of each run only the newest one can be such.
"""

from __future__ import annotations

import grpc

from trainerd.daemon import codec
from trainerd.daemon.incidents import request_of
from trainerd.daemon.journal import Stored
from trainerd.daemon.launchers import Launchers
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.commands import WriteIncident
from trainerd.daemon.supervision.events import DecisionMade
from trainerd.daemon.supervision.policy import FaultClass
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.views import Views
from trainerd.v1 import launcher_pb2

LOOK_BACK = 64
"""Records of a run in which its newest incident is looked for."""

_KINDS = frozenset({"decision_made", "trainer_exited"})


async def missed_incidents(
    runtime: Runtime, views: Views, launchers: Launchers
) -> list[launcher_pb2.WriteIncidentRequest]:
    """What the launcher is still to be told of. Raise `OSError` or `AioRpcError` as the link does.

    What telemetry knew of them is lost.
    """
    missed = []
    for run in list(runtime.state.runs.values()):
        if run.incidents and not await _kept(launchers, run):
            found = await _command(runtime, run)
            if found is not None:
                command, stored = found
                missed.append(
                    request_of(command, runtime.state, views, Telemetry(), wall=stored.wall)
                )
    return missed


async def _kept(launchers: Launchers, run: Run) -> bool:
    try:
        await launchers.incident(run, run.incidents)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return False
        raise
    return True


async def _command(runtime: Runtime, run: Run) -> tuple[WriteIncident, Stored] | None:
    """The command to keep the run's newest incident, and the record of its decision."""
    records = await runtime.history(run.id, 0, LOOK_BACK, kinds=_KINDS, newest_first=True)
    for place, stored in enumerate(records):
        if stored.message.decision_made.incident != run.incidents:
            continue
        made = codec.decode(stored.message)
        if not isinstance(made, DecisionMade):
            return None
        stacks = ""
        exited = records[place + 1] if place + 1 < len(records) else None
        if made.fault.fault_class is FaultClass.HANG and exited is not None:
            stacks = exited.message.trainer_exited.stacks
        command = WriteIncident(
            run=run.id,
            incarnation=made.incarnation,
            number=made.incident,
            fault=made.fault,
            decision=made.decision,
            stacks=stacks,
            host=made.host,
        )
        return command, stored
    return None
