"""What clients read of a run's files: they are the launcher's, the daemon passes them on."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from trainerd.daemon.launcher_link import LauncherLink
from trainerd.daemon.refusals import refuse
from trainerd.v1 import control_pb2, launcher_pb2

_Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")


class HostFiles:
    """Reads for one call; ends it with the launcher's refusal."""

    def __init__(self, launcher: LauncherLink) -> None:
        self._launcher = launcher

    async def log(
        self, context: _Context, run: str, request: control_pb2.ReadRunLogRequest
    ) -> control_pb2.ReadRunLogResponse:
        """A part of a run's log."""
        inner = launcher_pb2.ReadLogRequest(
            run=run,
            incarnation=request.incarnation,
            offset=request.offset,
            max_bytes=request.max_bytes,
        )
        part = await _passed(context, self._launcher.read_log(inner), "LOG_UNREADABLE")
        return control_pb2.ReadRunLogResponse(
            data=part.data, next_offset=part.next_offset, incarnation=part.incarnation
        )

    async def incidents(self, context: _Context, run: str) -> control_pb2.ListIncidentsResponse:
        """A run's incidents."""
        found = await _passed(context, self._launcher.read_incidents(run), "INCIDENTS_UNREADABLE")
        return control_pb2.ListIncidentsResponse(incidents=found.incidents)

    async def incident(
        self, context: _Context, run: str, number: int
    ) -> control_pb2.GetIncidentResponse:
        """One incident with its evidence."""
        call = self._launcher.read_incident(run, number)
        found = await _passed(context, call, "INCIDENT_UNREADABLE")
        return control_pb2.GetIncidentResponse(
            incident=found.incident, evidence=found.evidence, directory=found.directory
        )


async def _passed(context: _Context, call: Awaitable[Response], reason: str) -> Response:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        await refuse(context, error.code(), reason, error.details() or "")
    except OSError as error:
        await refuse(context, grpc.StatusCode.UNAVAILABLE, "LAUNCHER_UNLINKED", str(error))
