"""A LauncherService on a Unix socket without any process: its trainers are entries in a table."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from trainerd.actors.launcher.refusals import Refused, devices_busy
from trainerd.v1 import (
    checkpoint_pb2,
    control_pb2,
    event_pb2,
    launcher_pb2,
    launcher_pb2_grpc,
    protocol,
    run_pb2,
    timesheet_pb2,
)

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class FakeLauncher(launcher_pb2_grpc.LauncherServiceServicer):
    """Does as it is told, and remembers. `problems`: what a program check finds.

    `refuse_start`: the status that StartTrainer is refused with, or None. `answers_start`: False
    leaves StartTrainer unanswered; `answers_prepare` the same of PrepareStandby, which is refused
    with `no_standby`. `busy`: who holds the devices; empty: nobody.
    `dies_when_killed`: a kill is followed by an exit record.
    """

    instance: str = "fake-1"
    pid: int = 4711
    problems: list[control_pb2.Problem] = field(default_factory=list)
    refuse_start: grpc.StatusCode | None = None
    answers_start: bool = True
    dies_when_killed: bool = True
    live: dict[tuple[str, int], int] = field(default_factory=dict)
    started: list[launcher_pb2.Assignment] = field(default_factory=list)
    killed: list[tuple[str, int]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    memory_freed: list[str] = field(default_factory=list)
    refuse_removals: bool = False
    warm: bool = False
    busy: str = ""
    stacks: str = ""
    incidents: list[launcher_pb2.WriteIncidentRequest] = field(default_factory=list)
    refuse_incidents: grpc.StatusCode | None = None
    replay: launcher_pb2.ReplayIncidentResponse = field(
        default_factory=launcher_pb2.ReplayIncidentResponse
    )
    replayed: list[launcher_pb2.ReplayIncidentRequest] = field(default_factory=list)
    refuse_replay: Refused | None = None
    checkpoints: list[checkpoint_pb2.StoredCheckpoint] = field(default_factory=list)
    checkpoints_read: list[launcher_pb2.ReadCheckpointsRequest] = field(default_factory=list)
    exported: launcher_pb2.ExportParametersResponse = field(
        default_factory=launcher_pb2.ExportParametersResponse
    )
    exports: list[launcher_pb2.ExportParametersRequest] = field(default_factory=list)
    refuse_export: Refused | None = None
    steps: list[run_pb2.StepMetrics] = field(default_factory=list)
    lost_steps: int = 3
    thread_stacks: run_pb2.ThreadStacks = field(default_factory=run_pb2.ThreadStacks)
    checked: list[str] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    exits: list[launcher_pb2.ExitRecord] = field(default_factory=list)
    coordinated: list[tuple[str, int, int]] = field(default_factory=list)
    coordinators: set[tuple[str, int]] = field(default_factory=set)
    refuse_coordinator: str = ""
    prepared: list[str] = field(default_factory=list)
    answers_prepare: bool = True
    no_standby: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    server: grpc.aio.Server | None = None
    _hung_up: bool = False

    def exit(
        self,
        run: str,
        incarnation: int,
        *,
        exit_code: int = 0,
        signal: int = 0,
        times: Sequence[timesheet_pb2.ActivityTime] = (),
    ) -> None:
        """Let a trainer end."""
        del self.live[run, incarnation]
        exited = event_pb2.TrainerExited(
            exit_code=exit_code,
            signal=signal,
            killed_by_launcher=(run, incarnation) in self.killed,
            log_tail="last words",
            stacks=self.stacks,
            times=times,
        )
        self.exits.append(
            launcher_pb2.ExitRecord(
                sequence=len(self.exits) + 1, run=run, incarnation=incarnation, exited=exited
            )
        )
        self._tell()

    def answer_prepare(self) -> None:
        """Answer those that wait for a standby."""
        self.answers_prepare = True
        self._tell()

    def hang_up(self) -> None:
        """Break every call and stream that is open; the socket goes on answering."""
        self._hung_up = True
        self._tell()

    async def stop_serving(self) -> None:
        """End as a process does: streams break, nobody answers."""
        if self.server is not None:
            await self.server.stop(None)

    def assignment(self, run: str, incarnation: int) -> launcher_pb2.Assignment:
        """What the trainer was told."""
        return next(
            each for each in self.started if (each.run, each.incarnation) == (run, incarnation)
        )

    async def until(self, true: Callable[[FakeLauncher], object], deadline_s: float = 10.0) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(deadline_s):
            while not true(self):
                await self.changed.wait()

    async def WatchTrainers(
        self, request: launcher_pb2.WatchTrainersRequest, context: _Context
    ) -> AsyncIterator[launcher_pb2.WatchTrainersResponse]:
        self.acknowledged.append(request.after_sequence)
        hello = launcher_pb2.LauncherHello(
            protocol=protocol.protocol(),
            instance=self.instance,
            pid=self.pid,
            trainers=[
                event_pb2.LiveTrainer(run=run, incarnation=incarnation, pid=pid)
                for (run, incarnation), pid in self.live.items()
            ],
            devices="cpu, 1",
        )
        yield launcher_pb2.WatchTrainersResponse(hello=hello)
        sent = 0
        self._hung_up = False
        while not self._hung_up:
            changed = self.changed
            while sent < len(self.exits):
                yield launcher_pb2.WatchTrainersResponse(exit=self.exits[sent])
                sent += 1
            await changed.wait()

    async def StartTrainer(
        self, request: launcher_pb2.StartTrainerRequest, context: _Context
    ) -> launcher_pb2.StartTrainerResponse:
        assignment = request.assignment
        key = (assignment.run, assignment.incarnation)
        self.started.append(assignment)
        if self.refuse_start is not None:
            self._tell()
            await context.abort(self.refuse_start, "as the test wants it")
        if self.busy:
            self._tell()
            busy = devices_busy(self.busy)
            await context.abort(busy.code, str(busy), busy.trailing_metadata())
        if self.answers_start:
            self.live.setdefault(key, 5000 + len(self.started))
        self._tell()
        while key not in self.live:
            await self.changed.wait()
            if self._hung_up:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is gone")
        return launcher_pb2.StartTrainerResponse(pid=self.live[key], warm=self.warm)

    async def KillTrainer(
        self, request: launcher_pb2.KillTrainerRequest, context: _Context
    ) -> launcher_pb2.KillTrainerResponse:
        key = (request.run, request.incarnation)
        self.killed.append(key)
        found = key in self.live
        if found and self.dies_when_killed:
            self.exit(*key, exit_code=-1, signal=9)
        self._tell()
        return launcher_pb2.KillTrainerResponse(found=found)

    async def StartCoordinator(
        self, request: launcher_pb2.StartCoordinatorRequest, context: _Context
    ) -> launcher_pb2.StartCoordinatorResponse:
        key = (request.run, request.incarnation)
        self.coordinated.append((*key, request.process_count))
        self._tell()
        if self.refuse_coordinator:
            await context.abort(grpc.StatusCode.INTERNAL, self.refuse_coordinator)
        self.coordinators.add(key)
        return launcher_pb2.StartCoordinatorResponse(
            address=f"{self.instance}:{5000 + request.incarnation}", pid=6000
        )

    async def PrepareStandby(
        self, request: launcher_pb2.PrepareStandbyRequest, context: _Context
    ) -> launcher_pb2.PrepareStandbyResponse:
        self.prepared.append(request.run)
        self._tell()
        while not self.answers_prepare:
            await self.changed.wait()
        if self.no_standby:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, self.no_standby)
        return launcher_pb2.PrepareStandbyResponse()

    async def StopCoordinator(
        self, request: launcher_pb2.StopCoordinatorRequest, context: _Context
    ) -> launcher_pb2.StopCoordinatorResponse:
        self.coordinators.discard((request.run, request.incarnation))
        self._tell()
        return launcher_pb2.StopCoordinatorResponse()

    async def CheckProgram(
        self, request: launcher_pb2.CheckProgramRequest, context: _Context
    ) -> launcher_pb2.CheckProgramResponse:
        self.checked.append(request.spec.name)
        return launcher_pb2.CheckProgramResponse(problems=self.problems)

    async def ReadLog(
        self, request: launcher_pb2.ReadLogRequest, context: _Context
    ) -> launcher_pb2.ReadLogResponse:
        if request.offset > 0:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no log")
        data = f"log of {request.run}".encode()
        return launcher_pb2.ReadLogResponse(
            data=data, next_offset=len(data), incarnation=1, offset=0
        )

    async def WriteIncident(
        self, request: launcher_pb2.WriteIncidentRequest, context: _Context
    ) -> launcher_pb2.WriteIncidentResponse:
        self.incidents.append(request)
        self._tell()
        if self.refuse_incidents is not None:
            await context.abort(self.refuse_incidents, "no space left on device")
        return launcher_pb2.WriteIncidentResponse()

    async def ReadIncidents(
        self, request: launcher_pb2.ReadIncidentsRequest, context: _Context
    ) -> launcher_pb2.ReadIncidentsResponse:
        kept = [each.incident for each in self.incidents if each.incident.run == request.run]
        return launcher_pb2.ReadIncidentsResponse(incidents=kept)

    async def ReadIncident(
        self, request: launcher_pb2.ReadIncidentRequest, context: _Context
    ) -> launcher_pb2.ReadIncidentResponse:
        for each in self.incidents:
            if each.incident.run == request.run and request.number in (each.incident.number, 0):
                return launcher_pb2.ReadIncidentResponse(
                    incident=each.incident, evidence=each.evidence, directory="/i"
                )
        await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such incident")
        raise AssertionError("abort does not return")

    async def ReplayIncident(
        self, request: launcher_pb2.ReplayIncidentRequest, context: _Context
    ) -> launcher_pb2.ReplayIncidentResponse:
        self.replayed.append(request)
        if self.refuse_replay is not None:
            await context.abort(
                self.refuse_replay.code,
                str(self.refuse_replay),
                self.refuse_replay.trailing_metadata(),
            )
        return self.replay

    async def ReadCheckpoints(
        self, request: launcher_pb2.ReadCheckpointsRequest, context: _Context
    ) -> launcher_pb2.ReadCheckpointsResponse:
        self.checkpoints_read.append(request)
        return launcher_pb2.ReadCheckpointsResponse(checkpoints=self.checkpoints)

    async def ExportParameters(
        self, request: launcher_pb2.ExportParametersRequest, context: _Context
    ) -> launcher_pb2.ExportParametersResponse:
        self.exports.append(request)
        if self.refuse_export is not None:
            await context.abort(
                self.refuse_export.code,
                str(self.refuse_export),
                self.refuse_export.trailing_metadata(),
            )
        return self.exported

    async def ReadStepMetrics(
        self, request: launcher_pb2.ReadStepMetricsRequest, context: _Context
    ) -> launcher_pb2.ReadStepMetricsResponse:
        rest = [each for each in self.steps if each.step > request.after_step]
        return launcher_pb2.ReadStepMetricsResponse(
            steps=rest[: request.limit],
            more=len(rest) > request.limit,
            names=["rate"],
            lost=self.lost_steps,
        )

    async def CollectStacks(
        self, request: launcher_pb2.CollectStacksRequest, context: _Context
    ) -> launcher_pb2.CollectStacksResponse:
        if not any(run == request.run for run, _ in self.live):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no trainer is alive")
        return launcher_pb2.CollectStacksResponse(stacks=self.thread_stacks)

    async def RemoveRun(
        self, request: launcher_pb2.RemoveRunRequest, context: _Context
    ) -> launcher_pb2.RemoveRunResponse:
        if self.refuse_removals:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as the test wants it")
        (self.memory_freed if request.memory_only else self.removed).append(request.run)
        self._tell()
        return launcher_pb2.RemoveRunResponse()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


@contextlib.asynccontextmanager
async def serving(fake: FakeLauncher, socket: Path) -> AsyncIterator[FakeLauncher]:
    """Serve it for the life of the block; its streams break at the end, as when a process dies."""
    socket.parent.mkdir(parents=True, exist_ok=True)
    fake.server = server = grpc.aio.server(options=protocol.SERVER_OPTIONS)
    launcher_pb2_grpc.add_LauncherServiceServicer_to_server(fake, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)
