"""The daemon's end of the link to the host's launcher.

Holds one `WatchTrainers` stream open; its end is the DOWN signal. Where nobody else starts the
launcher (systemd does, in an installation), this starts it: detached, in a session of its own, so
that it outlives the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.sockets import answers
from trainerd.daemon.supervision.events import (
    LauncherAttached,
    LauncherLost,
    LiveTrainer,
    TrainerExited,
)
from trainerd.daemon.timesheets import activity_times
from trainerd.v1 import control_pb2, launcher_pb2, launcher_pb2_grpc, run_pb2
from trainerd.v1.mailbox import MailboxOverflow
from trainerd.v1.protocol import CHANNEL_OPTIONS, protocol, refusal

log = structlog.get_logger()

START_S = 60.0
"""Seconds a StartTrainer call may take."""
KILL_S = 10.0
CHECK_S = 150.0
"""Seconds a CheckProgram call may take; the launcher's own deadline is shorter."""
FILES_S = 30.0
REPLAY_S = 590.0
"""Seconds a ReplayIncident call may take; the launcher's own deadline is shorter."""
VERIFY_S = 3600.0
EXPORT_S = 600.0
"""Seconds that verifying and exporting checkpoints may take; the launcher's own are shorter."""
SPAWN_S = 20.0
"""Seconds a fresh launcher may take to serve its socket."""
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Back-off between attempts to reach the launcher; the last one is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherStart:
    """How to start a launcher: an argument vector, and where its output goes."""

    command: tuple[str, ...]
    log: Path


def launcher_command(arguments: tuple[str, ...], python: str = "") -> tuple[str, ...]:
    """The argument vector of a launcher: started by name, never imported."""
    return (python or sys.executable, "-m", "trainerd.actors.launcher", *arguments)


class LauncherLink:
    """Reaches the launcher again and again until closed."""

    def __init__(self, runtime: Runtime, path: Path, start: LauncherStart | None) -> None:
        self._runtime = runtime
        self._socket = path
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._stub: launcher_pb2_grpc.LauncherServiceAsyncStub | None = None
        self._acknowledged = 0
        self._ending = False
        # Runs whose files could not be removed, until it is tried again.
        self._left: set[str] = set()
        self.pid = 0
        self.problem = "not reached yet"

    async def run(self) -> None:
        """Keep the link up until cancelled, or until the launcher was told to end."""
        failures, told = 0, ""
        while not self._ending:
            failures += 1
            try:
                await self._session()
            except (grpc.aio.AioRpcError, OSError, MailboxOverflow, JournalFullError) as error:
                self.problem = _describe(error)
                if self.problem != told:
                    told = self.problem
                    log.warning("launcher_unreachable", socket=str(self._socket), error=told)
            if self._stub is not None:
                self._stub, self.pid = None, 0
                failures, told = 0, ""
                await self._post_lost()
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])

    @property
    def linked(self) -> bool:
        """Whether the launcher can be asked for something now."""
        return self._stub is not None

    async def start_trainer(
        self, assignment: launcher_pb2.Assignment
    ) -> launcher_pb2.StartTrainerResponse:
        """Start a trainer. Raise `grpc.aio.AioRpcError`, `OSError` when unlinked.

        The other calls raise the same.
        """
        request = launcher_pb2.StartTrainerRequest(assignment=assignment)
        return await self._linked().StartTrainer(request, timeout=START_S)

    async def kill_trainer(
        self, run: str, incarnation: int, grace_s: float, *, collect_stacks: bool = False
    ) -> bool:
        """Signal a trainer; return whether it was alive."""
        request = launcher_pb2.KillTrainerRequest(
            run=run, incarnation=incarnation, grace_s=grace_s, collect_stacks=collect_stacks
        )
        return (await self._linked().KillTrainer(request, timeout=KILL_S)).found

    async def check_program(self, spec: run_pb2.RunSpec) -> list[control_pb2.Problem]:
        """Everything that is wrong with a program, as its own Python sees it."""
        request = launcher_pb2.CheckProgramRequest(spec=spec)
        return list((await self._linked().CheckProgram(request, timeout=CHECK_S)).problems)

    async def read_log(self, request: launcher_pb2.ReadLogRequest) -> launcher_pb2.ReadLogResponse:
        """A part of a run's log."""
        return await self._linked().ReadLog(request, timeout=FILES_S)

    async def write_incident(self, request: launcher_pb2.WriteIncidentRequest) -> None:
        """Keep an incident beside its run's files."""
        await self._linked().WriteIncident(request, timeout=FILES_S)

    async def read_incidents(self, run: str) -> launcher_pb2.ReadIncidentsResponse:
        """A run's incidents."""
        request = launcher_pb2.ReadIncidentsRequest(run=run)
        return await self._linked().ReadIncidents(request, timeout=FILES_S)

    async def read_incident(self, run: str, number: int) -> launcher_pb2.ReadIncidentResponse:
        """One incident with its evidence; number 0: the newest."""
        request = launcher_pb2.ReadIncidentRequest(run=run, number=number)
        return await self._linked().ReadIncident(request, timeout=FILES_S)

    async def replay_incident(
        self, request: launcher_pb2.ReplayIncidentRequest
    ) -> launcher_pb2.ReplayIncidentResponse:
        """Train again up to an incident's batch; takes minutes."""
        return await self._linked().ReplayIncident(request, timeout=REPLAY_S)

    async def read_checkpoints(
        self, request: launcher_pb2.ReadCheckpointsRequest
    ) -> launcher_pb2.ReadCheckpointsResponse:
        """A run's checkpoints; verified or adopted, which takes as long as the disk does, if that
        is asked for."""
        reads = request.verify or request.HasField("adopt_step")
        timeout_s = VERIFY_S if reads else FILES_S
        return await self._linked().ReadCheckpoints(request, timeout=timeout_s)

    async def export_parameters(
        self, request: launcher_pb2.ExportParametersRequest
    ) -> launcher_pb2.ExportParametersResponse:
        """Write the parameters of a checkpoint; takes minutes."""
        return await self._linked().ExportParameters(request, timeout=EXPORT_S)

    async def read_step_metrics(
        self, request: launcher_pb2.ReadStepMetricsRequest
    ) -> launcher_pb2.ReadStepMetricsResponse:
        """A part of a run's step metrics."""
        return await self._linked().ReadStepMetrics(request, timeout=FILES_S)

    async def collect_stacks(self, run: str) -> launcher_pb2.CollectStacksResponse:
        """The stacks of a run's live trainer."""
        request = launcher_pb2.CollectStacksRequest(run=run)
        return await self._linked().CollectStacks(request, timeout=KILL_S)

    async def remove_run(self, run: str, *, memory_only: bool) -> None:
        """Remove a run's files, or only its snapshots in memory."""
        request = launcher_pb2.RemoveRunRequest(run=run, memory_only=memory_only)
        self._left.discard(run)
        try:
            await self._linked().RemoveRun(request, timeout=FILES_S)
        except (grpc.aio.AioRpcError, OSError):
            self._left.add(run)
            raise

    def left(self, run: str) -> bool:
        """Whether the files of a run stay for now: they could not be removed, or nobody can."""
        return run in self._left or not self.linked

    async def end_launcher(self, timeout_s: float) -> bool:
        """Let the launcher drain its trainers and end, for good, if it is this daemon's to start.

        One that an earlier daemon started is ended too. False: it lives after the timeout.
        """
        self._ending = True
        pid = self._process.pid if self._process is not None else self.pid
        if self._start is None or not pid or self._has_ended(pid):
            return True
        log.info("launcher_ending", pid=pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self._has_ended(pid):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    def _has_ended(self, pid: int) -> bool:
        if self._process is not None:
            return self._process.poll() is not None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    def _linked(self) -> launcher_pb2_grpc.LauncherServiceAsyncStub:
        if self._stub is None:
            raise OSError(f"the launcher is not linked: {self.problem}")
        return self._stub

    async def _session(self) -> None:
        """One life of the link; returns or raises when it ends."""
        self._spawn_if_needed()
        async with grpc.aio.insecure_channel(
            f"unix:{self._socket}", options=CHANNEL_OPTIONS
        ) as channel:
            stub: launcher_pb2_grpc.LauncherServiceAsyncStub
            stub = launcher_pb2_grpc.LauncherServiceStub(channel)
            async with asyncio.timeout(SPAWN_S):
                await channel.channel_ready()
            request = launcher_pb2.WatchTrainersRequest(
                protocol=protocol(), after_sequence=self._acknowledged
            )
            async for response in stub.WatchTrainers(request):
                if response.WhichOneof("payload") == "hello":
                    await self._attached(stub, response.hello)
                else:
                    await self._exited(response.exit)
        self.problem = "the launcher closed the link"

    async def _attached(
        self,
        stub: launcher_pb2_grpc.LauncherServiceAsyncStub,
        hello: launcher_pb2.LauncherHello,
    ) -> None:
        problem = refusal(hello.protocol, who="launcher")
        if problem:
            raise OSError(problem)
        self._stub, self.pid, self.problem = stub, hello.pid, ""
        self._left.clear()
        trainers = tuple(
            LiveTrainer(run=each.run, incarnation=each.incarnation, pid=each.pid)
            for each in hello.trainers
        )
        await self._runtime.post(
            LauncherAttached(instance=hello.instance, pid=hello.pid, trainers=trainers)
        )

    async def _exited(self, record: launcher_pb2.ExitRecord) -> None:
        run = self._runtime.state.runs.get(record.run)
        if run is None or run.trainer is None or run.incarnation != record.incarnation:
            # Told again by a launcher that had no acknowledgement yet.
            log.debug("exit_known", run=record.run, incarnation=record.incarnation)
            self._acknowledged = max(self._acknowledged, record.sequence)
            return
        exited = record.exited
        await self._runtime.post(
            TrainerExited(
                run=record.run,
                incarnation=record.incarnation,
                exit_code=exited.exit_code,
                signal=exited.signal,
                killed_by_launcher=exited.killed_by_launcher,
                log_tail=exited.log_tail,
                stacks=exited.stacks,
                times=activity_times(exited.times),
                drained=exited.drained,
            )
        )
        self._acknowledged = max(self._acknowledged, record.sequence)

    async def _post_lost(self) -> None:
        try:
            await self._runtime.post(LauncherLost(reason=self.problem))
        except (MailboxOverflow, JournalFullError) as error:
            log.warning("launcher_loss_not_recorded", error=str(error))

    def _spawn_if_needed(self) -> None:
        running = self._process is not None and self._process.poll() is None
        if self._start is None or self._ending or running:
            return
        self._process = None
        if self._socket.exists() and answers(self._socket):
            return
        self._start.log.parent.mkdir(parents=True, exist_ok=True)
        with self._start.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._start.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
        log.info("launcher_started", pid=self._process.pid)


def _describe(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
