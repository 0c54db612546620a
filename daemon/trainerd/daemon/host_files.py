"""What clients read of a run's files: they are the launcher's, the daemon passes them on."""

from __future__ import annotations

import socket
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from trainerd.daemon.launchers import Launchers
from trainerd.daemon.pages import page_cursor, page_size, page_token
from trainerd.daemon.refusals import refuse
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.step_metrics import read_steps
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, launcher_pb2

STEP_PAGE = 1000
MOST_STEPS = 5000
MOST_HOSTS = 8
"""Hosts of a gang whose step metrics are put together: those it trains on first."""

_Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")


class HostFiles:
    """Reads for one call; ends it with the launcher's refusal."""

    def __init__(self, runtime: Runtime, views: Views, launchers: Launchers) -> None:
        self._runtime = runtime
        self._views = views
        self._launchers = launchers

    async def log(
        self, context: _Context, run: Run, request: control_pb2.ReadRunLogRequest
    ) -> control_pb2.ReadRunLogResponse:
        """A part of a run's log."""
        host = await self._log_host(context, run, request.host)
        inner = launcher_pb2.ReadLogRequest(
            run=run.id,
            incarnation=request.incarnation,
            offset=request.offset,
            max_bytes=request.max_bytes,
        )

        async def read() -> launcher_pb2.ReadLogResponse:
            return await self._launchers.of_run(run, host).read_log(inner)

        part = await _passed(context, read(), "LOG_UNREADABLE")
        return control_pb2.ReadRunLogResponse(
            data=part.data,
            next_offset=part.next_offset,
            incarnation=part.incarnation,
            offset=part.offset,
        )

    async def _log_host(self, context: _Context, run: Run, host: str) -> str:
        """The host whose log of a run is asked for, as the supervisor calls it."""
        alone = not self._runtime.state.local
        known = {socket.gethostname(), self._views.host(run.id)} if alone else run.touched
        if host and host not in known:
            what = f"host {host} does not train run {run.id}"
            await refuse(context, grpc.StatusCode.NOT_FOUND, "HOST_NOT_FOUND", what)
        return "" if alone else host

    async def step_metrics(
        self, context: _Context, run: Run, request: control_pb2.ListStepMetricsRequest
    ) -> control_pb2.ListStepMetricsResponse:
        """A page of a run's step metrics."""
        listed = f"step metrics of {run.id}"
        most = await page_size(context, request.page_size, default=STEP_PAGE, most=MOST_STEPS)
        cursor = await page_cursor(context, listed, request.page_token)
        after = request.after_step if cursor is None else cursor
        launchers = self._launchers.all_of(run)[:MOST_HOSTS]
        call = read_steps(launchers, run.id, after=after, most=most)
        found = await _passed(context, call, "METRICS_UNREADABLE")
        return control_pb2.ListStepMetricsResponse(
            steps=found.steps,
            next_page_token=page_token(listed, found.steps[-1].step) if found.more else "",
            names=found.names,
            lost=found.lost,
        )

    async def incidents(
        self, context: _Context, run: Run, request: control_pb2.ListIncidentsRequest
    ) -> control_pb2.ListIncidentsResponse:
        """A page of a run's incidents."""
        listed = f"incidents of {run.id}"
        most = await page_size(context, request.page_size)
        after = await page_cursor(context, listed, request.page_token)
        found = await _passed(context, self._launchers.incidents(run), "INCIDENTS_UNREADABLE")
        rest = [each for each in found if each.number > (after or 0)]
        page = rest[:most]
        return control_pb2.ListIncidentsResponse(
            incidents=page,
            next_page_token=page_token(listed, page[-1].number) if len(rest) > most else "",
        )

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
