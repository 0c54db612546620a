"""What a launcher can be asked for: one method a call, each with its deadline.

The launcher may be this host's, over its socket, or another host's, over the link to its daemon.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc

from trainerd.v1 import control_pb2, launcher_pb2, launcher_pb2_grpc, run_pb2

START_S = 60.0
"""Seconds a StartTrainer call may take."""
STANDBY_S = 30.0
"""Seconds a PrepareStandby call may take; the supervisor waits less long."""
KILL_S = 10.0
CHECK_S = 150.0
"""Seconds a CheckProgram call may take; the launcher's own deadline is shorter."""
FILES_S = 30.0
REPLAY_S = 590.0
"""Seconds a ReplayIncident call may take; the launcher's own deadline is shorter."""
VERIFY_S = 3600.0
EXPORT_S = 600.0
"""Seconds that verifying and exporting checkpoints may take; the launcher's own are shorter."""
COORDINATOR_S = 20.0
"""Seconds a gang's coordination service may take to answer."""


class LauncherCalls:
    """The calls of one launcher. `stub`: what carries them now; raises `OSError` when unlinked."""

    def __init__(self, stub: Callable[[], launcher_pb2_grpc.LauncherServiceAsyncStub]) -> None:
        self._stub = stub
        # Runs whose files could not be removed, until it is tried again.
        self._left: set[str] = set()

    def stub(self) -> launcher_pb2_grpc.LauncherServiceAsyncStub:
        """What carries the calls now. Raise `OSError` when unlinked."""
        return self._stub()

    @property
    def linked(self) -> bool:
        """Whether the launcher can be asked for something now."""
        try:
            self._stub()
        except OSError:
            return False
        return True

    async def start_trainer(
        self, assignment: launcher_pb2.Assignment
    ) -> launcher_pb2.StartTrainerResponse:
        """Start a trainer. Raise `grpc.aio.AioRpcError`, `OSError` when unlinked.

        The other calls raise the same.
        """
        request = launcher_pb2.StartTrainerRequest(assignment=assignment)
        return await self._stub().StartTrainer(request, timeout=START_S)

    async def kill_trainer(
        self, run: str, incarnation: int, grace_s: float, *, collect_stacks: bool = False
    ) -> bool:
        """Signal a trainer; return whether it was alive."""
        request = launcher_pb2.KillTrainerRequest(
            run=run, incarnation=incarnation, grace_s=grace_s, collect_stacks=collect_stacks
        )
        return (await self._stub().KillTrainer(request, timeout=KILL_S)).found

    async def check_program(self, spec: run_pb2.RunSpec) -> list[control_pb2.Problem]:
        """Everything that is wrong with a program, as its own Python sees it."""
        request = launcher_pb2.CheckProgramRequest(spec=spec)
        return list((await self._stub().CheckProgram(request, timeout=CHECK_S)).problems)

    async def read_log(self, request: launcher_pb2.ReadLogRequest) -> launcher_pb2.ReadLogResponse:
        """A part of a run's log."""
        return await self._stub().ReadLog(request, timeout=FILES_S)

    async def write_incident(self, request: launcher_pb2.WriteIncidentRequest) -> None:
        """Keep an incident beside its run's files."""
        await self._stub().WriteIncident(request, timeout=FILES_S)

    async def read_incidents(self, run: str) -> launcher_pb2.ReadIncidentsResponse:
        """A run's incidents."""
        request = launcher_pb2.ReadIncidentsRequest(run=run)
        return await self._stub().ReadIncidents(request, timeout=FILES_S)

    async def read_incident(self, run: str, number: int) -> launcher_pb2.ReadIncidentResponse:
        """One incident with its evidence; number 0: the newest."""
        request = launcher_pb2.ReadIncidentRequest(run=run, number=number)
        return await self._stub().ReadIncident(request, timeout=FILES_S)

    async def replay_incident(
        self, request: launcher_pb2.ReplayIncidentRequest
    ) -> launcher_pb2.ReplayIncidentResponse:
        """Train again up to an incident's batch; takes minutes."""
        return await self._stub().ReplayIncident(request, timeout=REPLAY_S)

    async def read_checkpoints(
        self, request: launcher_pb2.ReadCheckpointsRequest
    ) -> launcher_pb2.ReadCheckpointsResponse:
        """A run's checkpoints; verified or adopted, which takes as long as the disk does, if that
        is asked for."""
        reads = request.verify or request.HasField("adopt_step")
        timeout_s = VERIFY_S if reads else FILES_S
        return await self._stub().ReadCheckpoints(request, timeout=timeout_s)

    async def export_parameters(
        self, request: launcher_pb2.ExportParametersRequest
    ) -> launcher_pb2.ExportParametersResponse:
        """Write the parameters of a checkpoint; takes minutes."""
        return await self._stub().ExportParameters(request, timeout=EXPORT_S)

    async def read_step_metrics(
        self, request: launcher_pb2.ReadStepMetricsRequest
    ) -> launcher_pb2.ReadStepMetricsResponse:
        """A part of a run's step metrics."""
        return await self._stub().ReadStepMetrics(request, timeout=FILES_S)

    async def collect_stacks(self, run: str) -> launcher_pb2.CollectStacksResponse:
        """The stacks of a run's live trainer."""
        request = launcher_pb2.CollectStacksRequest(run=run)
        return await self._stub().CollectStacks(request, timeout=KILL_S)

    async def remove_run(self, run: str, *, memory_only: bool) -> None:
        """Remove a run's files, or only its snapshots in memory."""
        request = launcher_pb2.RemoveRunRequest(run=run, memory_only=memory_only)
        self._left.discard(run)
        try:
            await self._stub().RemoveRun(request, timeout=FILES_S)
        except (grpc.aio.AioRpcError, OSError):
            self._left.add(run)
            raise

    def left(self, run: str) -> bool:
        """Whether the files of a run stay for now: they could not be removed, or nobody can."""
        return run in self._left or not self.linked

    async def start_coordinator(
        self, run: str, incarnation: int, processes: int
    ) -> launcher_pb2.StartCoordinatorResponse:
        """Start the coordination service of a gang's incarnation."""
        request = launcher_pb2.StartCoordinatorRequest(
            run=run, incarnation=incarnation, process_count=processes
        )
        return await self._stub().StartCoordinator(request, timeout=COORDINATOR_S)

    async def prepare_standby(self, run: str, spec: run_pb2.RunSpec) -> str:
        """Have a standby of a run prepared; return once it waits, or why there is none."""
        request = launcher_pb2.PrepareStandbyRequest(run=run, spec=spec)
        return (await self._stub().PrepareStandby(request, timeout=STANDBY_S)).problem

    async def stop_coordinator(self, run: str, incarnation: int) -> None:
        """End the coordination service of a gang's incarnation, if it lives."""
        request = launcher_pb2.StopCoordinatorRequest(run=run, incarnation=incarnation)
        await self._stub().StopCoordinator(request, timeout=KILL_S)
