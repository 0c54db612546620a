"""What clients read of a run's files: they are the launcher's, the daemon passes them on."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from trainerd.daemon.launchers import Launchers
from trainerd.daemon.refusals import refuse
from trainerd.daemon.supervision.state import Run
from trainerd.v1 import control_pb2, launcher_pb2

_Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")


class HostFiles:
    """Reads for one call; ends it with the launcher's refusal."""

    def __init__(self, launchers: Launchers) -> None:
        self._launchers = launchers

    async def log(
        self, context: _Context, run: Run, request: control_pb2.ReadRunLogRequest
    ) -> control_pb2.ReadRunLogResponse:
        """A part of a run's log."""
        inner = launcher_pb2.ReadLogRequest(
            run=run.id,
            incarnation=request.incarnation,
            offset=request.offset,
            max_bytes=request.max_bytes,
        )

        async def read() -> launcher_pb2.ReadLogResponse:
            return await self._launchers.of_run(run, request.host).read_log(inner)

        part = await _passed(context, read(), "LOG_UNREADABLE")
        return control_pb2.ReadRunLogResponse(
            data=part.data, next_offset=part.next_offset, incarnation=part.incarnation
        )

    async def incidents(self, context: _Context, run: Run) -> control_pb2.ListIncidentsResponse:
        """A run's incidents."""
        found = await _passed(context, self._launchers.incidents(run), "INCIDENTS_UNREADABLE")
        return control_pb2.ListIncidentsResponse(incidents=found)

    async def incident(
        self, context: _Context, run: Run, number: int
    ) -> control_pb2.GetIncidentResponse:
        """One incident with its evidence."""
        call = self._launchers.incident(run, number)
        _, found = await _passed(context, call, "INCIDENT_UNREADABLE")
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
