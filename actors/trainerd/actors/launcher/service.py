"""LauncherService: the host actor's mailbox."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog

from trainerd.actors.launcher import incidents
from trainerd.actors.launcher.checkpoints import Checkpoints
from trainerd.actors.launcher.checks import Checks
from trainerd.actors.launcher.coordinators import Coordinators
from trainerd.actors.launcher.exits import ExitStore
from trainerd.actors.launcher.logs import read_part
from trainerd.actors.launcher.refusals import Refused
from trainerd.actors.launcher.replays import Replays
from trainerd.actors.launcher.step_metrics import read_steps
from trainerd.actors.launcher.trainers import Trainers
from trainerd.v1 import launcher_pb2, launcher_pb2_grpc, protocol, run_pb2

_log = structlog.get_logger("trainerd.launcher")

Context = Any
"""grpc.aio's servicer context; the generated stubs accept no narrower type."""


class LauncherService(launcher_pb2_grpc.LauncherServiceServicer):
    """Translates requests to the host actor, and refusals to statuses."""

    def __init__(
        self,
        *,
        instance: str,
        trainers: Trainers,
        exits: ExitStore,
        checks: Checks,
        replays: Replays,
        checkpoints: Checkpoints,
        coordinators: Coordinators,
        devices: str,
    ) -> None:
        """`devices`: what trainers are bound to, in a word or two."""
        self._instance = instance
        self._trainers = trainers
        self._exits = exits
        self._checks = checks
        self._replays = replays
        self._checkpoints = checkpoints
        self._coordinators = coordinators
        self._devices = devices
        self._ending = asyncio.Event()
        self._writing = asyncio.Lock()

    def end(self) -> None:
        """Let the watchers' streams end once every exit has been sent."""
        self._ending.set()

    async def WatchTrainers(  # noqa: N802
        self, request: launcher_pb2.WatchTrainersRequest, context: Context
    ) -> AsyncIterator[launcher_pb2.WatchTrainersResponse]:
        """The situation, then the records not yet acknowledged, then every new one."""
        refusal = protocol.refusal(request.protocol, who="daemon")
        if refusal is not None:
            error = Refused(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="PROTOCOL_REFUSED",
                message=refusal,
            )
            await _abort(context, error)
        self._exits.acknowledge(request.after_sequence)
        # No await between the two: an exit is either in the situation or in the records.
        hello = launcher_pb2.LauncherHello(
            protocol=protocol.protocol(),
            instance=self._instance,
            pid=os.getpid(),
            trainers=self._trainers.situation(),
            devices=self._devices,
        )
        sent = 0
        fresh = self._exits.after(sent)
        _log.info("watched", trainers=len(hello.trainers), exits=len(fresh))
        yield launcher_pb2.WatchTrainersResponse(hello=hello)
        while True:
            for record in fresh:
                yield launcher_pb2.WatchTrainersResponse(exit=record.to_proto())
                sent = record.sequence
            fresh = self._exits.after(sent)
            if fresh:
                continue
            if self._ending.is_set():
                return
            await self._next_exit(self._exits.last_sequence)
            fresh = self._exits.after(sent)

    async def StartTrainer(  # noqa: N802
        self, request: launcher_pb2.StartTrainerRequest, context: Context
    ) -> launcher_pb2.StartTrainerResponse:
        """Start a trainer."""
        async with _refusals(context):
            started = await self._trainers.start(request.assignment)
        return launcher_pb2.StartTrainerResponse(pid=started.pid, warm=started.warm)

    async def PrepareStandby(  # noqa: N802
        self, request: launcher_pb2.PrepareStandbyRequest, context: Context
    ) -> launcher_pb2.PrepareStandbyResponse:
        """Have a standby prepared; answers when it waits, or cannot."""
        async with _refusals(context):
            assignment = launcher_pb2.Assignment(run=request.run, spec=request.spec)
            problem = await self._trainers.prepare(assignment)
        return launcher_pb2.PrepareStandbyResponse(problem=problem)

    async def KillTrainer(  # noqa: N802
        self, request: launcher_pb2.KillTrainerRequest, context: Context
    ) -> launcher_pb2.KillTrainerResponse:
        """End a trainer; answers at once."""
        async with _refusals(context):
            if not (math.isfinite(request.grace_s) and request.grace_s >= 0):
                raise _invalid(f"grace_s must be a finite number ≥ 0, got {request.grace_s}")
            found = self._trainers.kill(
                request.run,
                request.incarnation,
                request.grace_s,
                collect_stacks=request.collect_stacks,
            )
        return launcher_pb2.KillTrainerResponse(found=found)

    async def StartCoordinator(  # noqa: N802
        self, request: launcher_pb2.StartCoordinatorRequest, context: Context
    ) -> launcher_pb2.StartCoordinatorResponse:
        """Start the coordination service of a gang; answers when it does."""
        async with _refusals(context):
            started = await self._coordinators.start(request)
        return launcher_pb2.StartCoordinatorResponse(address=started.address, pid=started.child.pid)

    async def StopCoordinator(  # noqa: N802
        self, request: launcher_pb2.StopCoordinatorRequest, context: Context
    ) -> launcher_pb2.StopCoordinatorResponse:
        """End the coordination service of a gang."""
        async with _refusals(context):
            await self._coordinators.stop(request.run, request.incarnation)
        return launcher_pb2.StopCoordinatorResponse()

    async def CheckProgram(  # noqa: N802
        self, request: launcher_pb2.CheckProgramRequest, context: Context
    ) -> launcher_pb2.CheckProgramResponse:
        """Check a program in the user's Python."""
        async with _refusals(context):
            problems = await self._checks.check(request.spec)
        return launcher_pb2.CheckProgramResponse(problems=problems)

    async def ReadLog(  # noqa: N802
        self, request: launcher_pb2.ReadLogRequest, context: Context
    ) -> launcher_pb2.ReadLogResponse:
        """Read a part of a run's log."""
        async with _refusals(context):
            if request.max_bytes < 0:
                raise _invalid(f"max_bytes must be ≥ 0, got {request.max_bytes}")
            files = self._trainers.files(request.run)
            incarnation = request.incarnation or files.newest_incarnation()
            try:
                part = read_part(
                    files.log(incarnation), offset=request.offset, max_bytes=request.max_bytes
                )
            except OSError as error:
                raise Refused(
                    code=grpc.StatusCode.NOT_FOUND,
                    reason="NO_LOG",
                    message=f"{request.run} has no log of incarnation {incarnation} on this host",
                ) from error
        return launcher_pb2.ReadLogResponse(
            data=part.data,
            next_offset=part.next_offset,
            incarnation=incarnation,
            offset=part.offset,
        )

    async def WriteIncident(  # noqa: N802
        self, request: launcher_pb2.WriteIncidentRequest, context: Context
    ) -> launcher_pb2.WriteIncidentResponse:
        """Keep an incident; whatever is wrong with it, no trainer is touched."""
        async with _refusals(context):
            incident = request.incident
            if incident.number < 1 or incident.incarnation < 0:
                raise _invalid(f"number must be ≥ 1, got {incident.number}")
            files = self._trainers.files(incident.run)
            async with self._writing:
                try:
                    await asyncio.to_thread(incidents.write, files, incident, request.evidence)
                except ValueError as error:
                    raise _invalid(str(error)) from error
                except OSError as error:
                    raise Refused(
                        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                        reason="INCIDENT_NOT_KEPT",
                        message=f"the incident could not be written: {error}",
                    ) from error
        return launcher_pb2.WriteIncidentResponse()

    async def ReadIncidents(  # noqa: N802
        self, request: launcher_pb2.ReadIncidentsRequest, context: Context
    ) -> launcher_pb2.ReadIncidentsResponse:
        """The incidents of a run that are kept."""
        async with _refusals(context):
            files = self._trainers.files(request.run)
            found = await asyncio.to_thread(incidents.read_all, files)
        return launcher_pb2.ReadIncidentsResponse(incidents=found)

    async def ReadIncident(  # noqa: N802
        self, request: launcher_pb2.ReadIncidentRequest, context: Context
    ) -> launcher_pb2.ReadIncidentResponse:
        """One incident with its evidence."""
        async with _refusals(context):
            files = self._trainers.files(request.run)
            try:
                incident, evidence, place = await asyncio.to_thread(
                    incidents.read, files, request.number
                )
            except incidents.NoIncident as error:
                raise Refused(
                    code=grpc.StatusCode.NOT_FOUND,
                    reason="NO_INCIDENT",
                    message=f"{request.run}: {error}",
                ) from error
        return launcher_pb2.ReadIncidentResponse(
            incident=incident, evidence=evidence, directory=str(place)
        )

    async def ReplayIncident(  # noqa: N802
        self, request: launcher_pb2.ReplayIncidentRequest, context: Context
    ) -> launcher_pb2.ReplayIncidentResponse:
        """Train again up to an incident's batch."""
        async with _refusals(context):
            return await self._replays.replay(self._trainers.files(request.run), request)

    async def ReadCheckpoints(  # noqa: N802
        self, request: launcher_pb2.ReadCheckpointsRequest, context: Context
    ) -> launcher_pb2.ReadCheckpointsResponse:
        """List a run's checkpoints, verify them, or adopt one."""
        async with _refusals(context):
            return await self._checkpoints.read(self._trainers.files(request.run), request)

    async def ExportParameters(  # noqa: N802
        self, request: launcher_pb2.ExportParametersRequest, context: Context
    ) -> launcher_pb2.ExportParametersResponse:
        """Write the parameters of a checkpoint."""
        async with _refusals(context):
            return await self._checkpoints.export(self._trainers.files(request.run), request)

    async def ReadStepMetrics(  # noqa: N802
        self, request: launcher_pb2.ReadStepMetricsRequest, context: Context
    ) -> launcher_pb2.ReadStepMetricsResponse:
        """A part of a run's step metrics."""
        async with _refusals(context):
            return await asyncio.to_thread(read_steps, self._trainers.files(request.run), request)

    async def CollectStacks(  # noqa: N802
        self, request: launcher_pb2.CollectStacksRequest, context: Context
    ) -> launcher_pb2.CollectStacksResponse:
        """The stacks of a live trainer."""
        async with _refusals(context):
            try:
                found = await self._trainers.look_at(request.run)
            except OSError as error:
                raise Refused(
                    code=grpc.StatusCode.UNAVAILABLE,
                    reason="STACKS_UNREADABLE",
                    message=f"the stacks could not be collected: {error}",
                ) from error
        stacks = run_pb2.ThreadStacks(
            threads=found.threads, python=found.python, native=found.native
        )
        return launcher_pb2.CollectStacksResponse(stacks=stacks)

    async def RemoveRun(  # noqa: N802
        self, request: launcher_pb2.RemoveRunRequest, context: Context
    ) -> launcher_pb2.RemoveRunResponse:
        """Remove a run's files, or only what of them lies in memory."""
        async with _refusals(context):
            await self._trainers.remove(request.run, memory_only=request.memory_only)
            await self._coordinators.remove(request.run)
        return launcher_pb2.RemoveRunResponse()

    async def _next_exit(self, sequence: int) -> None:
        waits = {
            asyncio.ensure_future(self._exits.wait_beyond(sequence)),
            asyncio.ensure_future(self._ending.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _invalid(message: str) -> Refused:
    return Refused(
        code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_ARGUMENT", message=message
    )


async def _abort(context: Context, error: Refused) -> None:
    await context.abort(error.code, str(error), error.trailing_metadata())


@contextlib.asynccontextmanager
async def _refusals(context: Context) -> AsyncIterator[None]:
    try:
        yield
    except Refused as error:
        _log.info("request_refused", reason=error.reason, message=str(error))
        await _abort(context, error)
