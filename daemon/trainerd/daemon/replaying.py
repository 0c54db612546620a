"""ReplayRunIncident: does a recorded fault happen again? The launcher finds out."""

from __future__ import annotations

from typing import Any

import grpc

from trainerd.daemon import codec
from trainerd.daemon.launchers import Launchers
from trainerd.daemon.refusals import reason_of, refuse
from trainerd.daemon.supervision.drills import InjectedFault
from trainerd.daemon.supervision.policy import FaultClass
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, fault_pb2, launcher_pb2

_Context = grpc.aio.ServicerContext[Any, Any]

INJECTED = {
    InjectedFault.EXCEPTION: (FaultClass.STEP_EXCEPTION,),
    InjectedFault.NAN: (FaultClass.NON_FINITE_MICROBATCH, FaultClass.NON_FINITE_STEP),
    InjectedFault.LOSS_SPIKE: (FaultClass.LOSS_SPIKE,),
    InjectedFault.DATA_ERROR: (FaultClass.DATA_ERROR,),
    InjectedFault.OUT_OF_MEMORY: (FaultClass.DEVICE_OOM,),
    InjectedFault.DEVICE_ERROR: (FaultClass.DEVICE_ERROR,),
}
"""The faults at a batch that injections lead to."""


class Replaying:
    """Replays incidents for clients; ends a call with the launcher's refusal."""

    def __init__(self, views: Views, launchers: Launchers) -> None:
        self._views = views
        self._launchers = launchers

    async def replay(
        self, context: _Context, run: Run, request: control_pb2.ReplayRunIncidentRequest
    ) -> control_pb2.ReplayRunIncidentResponse:
        """Replay under the run's present specification and policy; takes minutes.

        The message of an incident's fault that was made to happen on purpose says so: injections
        are off in a replay.
        """
        try:
            launcher, found = await self._launchers.incident(run, request.number)
            incident = found.incident
            inner = launcher_pb2.ReplayIncidentRequest(
                run=run.id,
                number=incident.number,
                spec=self._views.spec(run.id),
                cpu=request.cpu,
                restore_directories=self._views.restore_directories(run.id),
            )
            inner.spec.policy.CopyFrom(self._views.policy(run))
            showed = await launcher.replay_incident(inner)
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error) or "NOT_REPLAYED"
            await refuse(context, error.code(), reason, error.details() or "")
        except OSError as error:
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "LAUNCHER_UNLINKED", str(error))
        if number := injection_of(run, incident.fault):
            incident.fault.message += (
                f" (made to happen on purpose by injection {number}; a replay has none)"
            )
        return control_pb2.ReplayRunIncidentResponse(
            incident=incident,
            happened=showed.happened,
            fault=showed.fault if showed.HasField("fault") else None,
            source=showed.source,
            first_step=showed.first_step,
            last_step=showed.last_step,
        )


def injection_of(run: Run, fault: fault_pb2.Fault) -> int:
    """The number of the injection that made a fault happen; 0: none did."""
    name = codec.class_name(fault)
    for armed in run.injections:
        classes = INJECTED.get(armed.injection.fault, ())
        if fault.batch in armed.batches and name in {each.value for each in classes}:
            return armed.number
    return 0
