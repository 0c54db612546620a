"""What clients read of a run's files: they are the launcher's, the daemon passes them on."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from trainerd.daemon.launcher_link import LauncherLink
from trainerd.daemon.pages import page_cursor, page_size, page_token
from trainerd.daemon.refusals import refuse
from trainerd.v1 import control_pb2, launcher_pb2

STEP_PAGE = 1000
MOST_STEPS = 5000

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
            data=part.data,
            next_offset=part.next_offset,
            incarnation=part.incarnation,
            offset=part.offset,
        )

    async def step_metrics(
        self, context: _Context, run: str, request: control_pb2.ListStepMetricsRequest
    ) -> control_pb2.ListStepMetricsResponse:
        """A page of a run's step metrics."""
        listed = f"step metrics of {run}"
        most = await page_size(context, request.page_size, default=STEP_PAGE, most=MOST_STEPS)
        cursor = await page_cursor(context, listed, request.page_token)
        after = request.after_step if cursor is None else cursor
        inner = launcher_pb2.ReadStepMetricsRequest(run=run, after_step=after, limit=most)
        call = self._launcher.read_step_metrics(inner)
        found = await _passed(context, call, "METRICS_UNREADABLE")
        return control_pb2.ListStepMetricsResponse(
            steps=found.steps,
            next_page_token=page_token(listed, found.steps[-1].step) if found.more else "",
            names=found.names,
            lost=found.lost,
        )

    async def incidents(
        self, context: _Context, run: str, request: control_pb2.ListIncidentsRequest
    ) -> control_pb2.ListIncidentsResponse:
        """A page of a run's incidents."""
        listed = f"incidents of {run}"
        most = await page_size(context, request.page_size)
        after = await page_cursor(context, listed, request.page_token)
        found = await _passed(context, self._launcher.read_incidents(run), "INCIDENTS_UNREADABLE")
        rest = [each for each in found.incidents if each.number > (after or 0)]
        page = rest[:most]
        return control_pb2.ListIncidentsResponse(
            incidents=page,
            next_page_token=page_token(listed, page[-1].number) if len(rest) > most else "",
        )

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
