"""What clients ask about the checkpoints on a host's disk: the launcher finds out."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from trainerd.daemon.launchers import Launchers
from trainerd.daemon.refusals import reason_of, refuse
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, launcher_pb2

_Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")


class StoredCheckpoints:
    """Asks for one call; ends it with the launcher's refusal."""

    def __init__(self, views: Views, launchers: Launchers) -> None:
        self._views = views
        self._launchers = launchers

    async def list(self, context: _Context, run: Run) -> control_pb2.ListCheckpointsResponse:
        """What is there, without reading it."""
        found = await self._read(context, run, verify=False)
        return control_pb2.ListCheckpointsResponse(checkpoints=found.checkpoints)

    async def verify(self, context: _Context, run: Run) -> control_pb2.VerifyCheckpointsResponse:
        """Read everything; takes as long as the disk does."""
        found = await self._read(context, run, verify=True)
        return control_pb2.VerifyCheckpointsResponse(checkpoints=found.checkpoints)

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

    async def _read(
        self, context: _Context, run: Run, *, verify: bool
    ) -> launcher_pb2.ReadCheckpointsResponse:
        request = launcher_pb2.ReadCheckpointsRequest(
            run=run.id, checkpoint=self._views.spec(run.id).checkpoint, verify=verify
        )
        return await _passed(context, self._launchers.of_run(run).read_checkpoints(request))


async def _passed(context: _Context, call: Awaitable[Response]) -> Response:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        reason = reason_of(error) or "CHECKPOINTS_UNREADABLE"
        await refuse(context, error.code(), reason, error.details() or "")
    except OSError as error:
        await refuse(context, grpc.StatusCode.UNAVAILABLE, "LAUNCHER_UNLINKED", str(error))
