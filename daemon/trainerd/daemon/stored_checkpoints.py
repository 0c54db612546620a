"""What clients ask about the checkpoints on a host's disk: the launcher finds out."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from trainerd.daemon.launchers import Launchers
from trainerd.daemon.pages import page_cursor, page_size, page_token
from trainerd.daemon.refusals import reason_of, refuse
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.verifying import Verifying
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, launcher_pb2

_Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")


class StoredCheckpoints:
    """Asks for one call; ends it with the launcher's refusal."""

    def __init__(self, views: Views, launchers: Launchers, verifying: Verifying) -> None:
        self._views = views
        self._launchers = launchers
        self._verifying = verifying

    async def list(
        self, context: _Context, run: Run, request: control_pb2.ListCheckpointsRequest
    ) -> control_pb2.ListCheckpointsResponse:
        """A page of what is there, without reading it."""
        listed = f"checkpoints of {run.id}"
        most = await page_size(context, request.page_size)
        before = await page_cursor(context, listed, request.page_token)
        found = await _passed(context, self._read(run, self._request(run)))
        rest = [each for each in found.checkpoints if before is None or each.step < before]
        page = rest[:most]
        # Those of one step come together: the step is where the next page begins.
        while page and len(page) < len(rest) and rest[len(page)].step == page[-1].step:
            page.append(rest[len(page)])
        return control_pb2.ListCheckpointsResponse(
            checkpoints=page,
            next_page_token=page_token(listed, page[-1].step) if len(rest) > len(page) else "",
        )

    async def verify(self, context: _Context, run: Run) -> control_pb2.VerifyCheckpointsResponse:
        """Read everything and journal what was found; takes as long as the disk does."""
        found = await _passed(context, self._verifying.verify(run, scrub=False))
        return control_pb2.VerifyCheckpointsResponse(checkpoints=found.checkpoints)

    async def adopt(
        self, context: _Context, run: Run, step: int
    ) -> control_pb2.AdoptCheckpointResponse:
        """Make one durable that somebody vouches for."""
        request = self._request(run)
        request.adopt_step = step
        found = await _passed(context, self._read(run, request))
        for checkpoint in found.checkpoints:
            if checkpoint.step == step:
                return control_pb2.AdoptCheckpointResponse(checkpoint=checkpoint)
        what = f"run {run.id} has no checkpoint of step {step} that can be adopted"
        await refuse(context, grpc.StatusCode.NOT_FOUND, "CHECKPOINT_NOT_FOUND", what)

    async def export(
        self, context: _Context, run: Run, request: control_pb2.ExportCheckpointRequest
    ) -> control_pb2.ExportCheckpointResponse:
        """Write the parameters of a checkpoint to the host's disk."""
        inner = launcher_pb2.ExportParametersRequest(
            run=run.id, spec=self._views.spec(run.id), directory=request.directory
        )
        if request.HasField("step"):
            inner.step = request.step
        came = await _passed(context, self._launchers.of_run(run).export_parameters(inner))
        return control_pb2.ExportCheckpointResponse(
            step=came.step,
            path=came.path,
            directory=came.directory,
            arrays=came.arrays,
            parameters=came.parameters,
            bytes=came.bytes,
        )

    def _request(self, run: Run) -> launcher_pb2.ReadCheckpointsRequest:
        return launcher_pb2.ReadCheckpointsRequest(
            run=run.id, checkpoint=self._views.spec(run.id).checkpoint
        )

    async def _read(
        self, run: Run, request: launcher_pb2.ReadCheckpointsRequest
    ) -> launcher_pb2.ReadCheckpointsResponse:
        return await self._launchers.of_run(run).read_checkpoints(request)


async def _passed(context: _Context, call: Awaitable[Response]) -> Response:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        reason = reason_of(error) or "CHECKPOINTS_UNREADABLE"
        await refuse(context, error.code(), reason, error.details() or "")
    except OSError as error:
        await refuse(context, grpc.StatusCode.UNAVAILABLE, "LAUNCHER_UNLINKED", str(error))
