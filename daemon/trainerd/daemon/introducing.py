"""GetDaemon: what any daemon says of itself, be it the supervisor or a host that has joined one."""

from __future__ import annotations

import os
from typing import Any

import grpc

from trainerd.daemon.refusals import refuse
from trainerd.v1 import control_pb2
from trainerd.v1.protocol import protocol, refusal


async def introduce(
    request: control_pb2.GetDaemonRequest,
    context: grpc.aio.ServicerContext[Any, Any],
    *,
    metrics_address: str,
    launcher_pid: int,
    uptime_s: float,
    supervisor: str = "",
    supervisor_problem: str = "",
) -> control_pb2.GetDaemonResponse:
    """Answer for this process, or refuse a client of another protocol; fields: control.proto."""
    problem = refusal(request.protocol, who="client")
    if request.HasField("protocol") and problem:
        await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "PROTOCOL_MISMATCH", problem)
    return control_pb2.GetDaemonResponse(
        protocol=protocol(),
        pid=os.getpid(),
        metrics_address=metrics_address,
        launcher_pid=launcher_pid,
        uptime_s=uptime_s,
        supervisor=supervisor,
        supervisor_problem=supervisor_problem,
    )
