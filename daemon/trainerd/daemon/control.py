"""ControlService: what clients may ask of the daemon.

Reads come from the views; every change is an event that the supervisor takes or refuses. A call
that changes a run answers when it is done, unless `no_wait`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from trainerd.daemon.api_config import LimitsConfig
from trainerd.daemon.changes import Changes
from trainerd.daemon.checking import Checking
from trainerd.daemon.clock import Clock
from trainerd.daemon.cluster.facts import HostFacts
from trainerd.daemon.cluster.hosts import Hosts
from trainerd.daemon.deadlines import Deadlines
from trainerd.daemon.explaining import explanation
from trainerd.daemon.finding import find_run
from trainerd.daemon.host_files import HostFiles
from trainerd.daemon.injecting import Injecting, Permission
from trainerd.daemon.introducing import introduce
from trainerd.daemon.launcher_link import LauncherLink
from trainerd.daemon.launchers import Launchers
from trainerd.daemon.pages import page_cursor, page_size, page_token
from trainerd.daemon.policies import Policies
from trainerd.daemon.profiles import Profiles
from trainerd.daemon.replaying import Replaying
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.simulating import simulated
from trainerd.daemon.stored_checkpoints import StoredCheckpoints
from trainerd.daemon.streams import Streams
from trainerd.daemon.submitting import Submitting
from trainerd.daemon.supervision.events import (
    CheckpointRequested,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    RunDeleted,
    RunState,
    StopRequested,
)
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.verifying import Verifying
from trainerd.daemon.views import Views
from trainerd.daemon.watchers import Watchers
from trainerd.v1 import control_pb2, control_pb2_grpc, event_pb2, run_pb2

REMOVAL_S = 35.0
"""Seconds that a deletion waits until the files are gone; the launcher has a shorter deadline."""

_RUNNING = frozenset({RunState.RUNNING})
_PAUSED = frozenset({RunState.PAUSED})
_Context = grpc.aio.ServicerContext[Any, Any]


class Control(control_pb2_grpc.ControlServiceServicer):
    """Serves one daemon's control plane."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        views: Views,
        watchers: Watchers,
        deadlines: Deadlines,
        launcher: LauncherLink,
        launchers: Launchers,
        clock: Clock,
        metrics_address: str,
        injection: Permission,
        verifying: Verifying,
        limits: LimitsConfig,
        facts: HostFacts,
        most_hosts: int,
    ) -> None:
        self._runtime = runtime
        self._views = views
        self._watchers = watchers
        self._deadlines = deadlines
        self._launcher = launcher
        self._launchers = launchers
        self._clock = clock
        self._metrics_address = metrics_address
        self._started = clock.now()
        self._changes = Changes(runtime, watchers)
        self._checking = Checking(launchers, watchers, clock, most_hosts=most_hosts)
        self._injecting = Injecting(runtime, self._changes, injection, views, clock)
        self._submitting = Submitting(
            runtime, views, self._changes, self._checking, self._injecting, limits=limits
        )
        self._policies = Policies(runtime, views, self._changes)
        self._replaying = Replaying(views, launchers)
        self._files = HostFiles(runtime, views, launchers)
        self._checkpoints = StoredCheckpoints(views, launchers, verifying)
        self._streams = Streams(runtime, views, watchers, clock)
        self._profiles = Profiles(runtime, self._changes, watchers, launchers)
        self._hosts = Hosts(runtime, self._changes, facts)

    async def GetDaemon(  # noqa: N802
        self, request: control_pb2.GetDaemonRequest, context: _Context
    ) -> control_pb2.GetDaemonResponse:
        """See control.proto."""
        return await introduce(
            request,
            context,
            metrics_address=self._metrics_address,
            launcher_pid=self._launcher.pid,
            uptime_s=self._clock.now() - self._started,
        )

    async def CheckRun(  # noqa: N802
        self,
        request: control_pb2.CheckRunRequest,
        context: _Context,  # noqa: ARG002
    ) -> control_pb2.CheckRunResponse:
        """See control.proto."""
        problems = await self._checking.problems(request.spec, program=not request.skip_program)
        return control_pb2.CheckRunResponse(
            problems=[*self._injecting.problems(request.spec), *problems]
        )

    async def SubmitRun(  # noqa: N802
        self, request: control_pb2.SubmitRunRequest, context: _Context
    ) -> control_pb2.SubmitRunResponse:
        """See control.proto."""
        run = await self._submitting.submit(context, request)
        return control_pb2.SubmitRunResponse(run=self._view(run))

    async def GetRun(  # noqa: N802
        self, request: control_pb2.GetRunRequest, context: _Context
    ) -> control_pb2.GetRunResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return control_pb2.GetRunResponse(run=self._view(run))

    async def ListRuns(  # noqa: N802
        self, request: control_pb2.ListRunsRequest, context: _Context
    ) -> control_pb2.ListRunsResponse:
        """See control.proto."""
        size = await page_size(context, request.page_size)
        before = await page_cursor(context, "runs", request.page_token)
        runs = sorted(self._runtime.state.runs.values(), key=lambda run: -run.order)
        if before is not None:
            runs = [run for run in runs if run.order < before]
        page, rest = runs[:size], runs[size:]
        return control_pb2.ListRunsResponse(
            runs=[self._view(run) for run in page],
            next_page_token=page_token("runs", page[-1].order) if rest else "",
        )

    async def DeleteRun(  # noqa: N802
        self, request: control_pb2.DeleteRunRequest, context: _Context
    ) -> control_pb2.DeleteRunResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        if run.terminal and run.members:
            await self._changes.until(context, run.id, lambda now: now is None or not now.members)
        await self._changes.request(context, RunDeleted(run=run.id))
        removed = False
        if not request.no_wait:
            removed = await self._changes.removed(context, run.id, self._launchers.left, REMOVAL_S)
        return control_pb2.DeleteRunResponse(files_removed=removed)

    async def PauseRun(  # noqa: N802
        self, request: control_pb2.PauseRunRequest, context: _Context
    ) -> control_pb2.PauseRunResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        await self._changes.request(context, PauseRequested(run=run.id))
        if not request.no_wait:
            run = await self._changes.reach(context, run.id, _PAUSED, lambda now: not now.pausing)
        return control_pb2.PauseRunResponse(run=self._view(self._now(run)))

    async def ResumeRun(  # noqa: N802
        self, request: control_pb2.ResumeRunRequest, context: _Context
    ) -> control_pb2.ResumeRunResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        await self._changes.request(context, ResumeRequested(run=run.id))
        if not request.no_wait:
            run = await self._changes.reach(context, run.id, _RUNNING, lambda now: now.pausing)
        return control_pb2.ResumeRunResponse(run=self._view(self._now(run)))

    async def RestartRun(  # noqa: N802
        self, request: control_pb2.RestartRunRequest, context: _Context
    ) -> control_pb2.RestartRunResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        before = run.incarnation
        await self._changes.request(context, RestartRequested(run=run.id))
        if not request.no_wait:
            # A run that was to hold holds again.
            run = await self._changes.reach(context, run.id, _RUNNING | _PAUSED, beyond=before)
        return control_pb2.RestartRunResponse(run=self._view(self._now(run)))

    async def StopRun(  # noqa: N802
        self, request: control_pb2.StopRunRequest, context: _Context
    ) -> control_pb2.StopRunResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        if run.state is not RunState.STOPPED:
            await self._changes.request(
                context, StopRequested(run=run.id, save=not request.no_checkpoint)
            )
            if not request.no_wait:
                await self._changes.until(context, run.id, lambda now: now is None or now.terminal)
        return control_pb2.StopRunResponse(run=self._view(self._now(run)))

    async def CheckpointRun(  # noqa: N802
        self, request: control_pb2.CheckpointRunRequest, context: _Context
    ) -> control_pb2.CheckpointRunResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        request_id = secrets.token_hex(8)
        with self._watchers.watch(run.id) as watcher:
            await self._changes.request(
                context, CheckpointRequested(run=run.id, request_id=request_id)
            )
            saved = event_pb2.CheckpointSaved()
            if not request.no_wait:
                saved = await self._changes.saved(context, run.id, request_id, watcher)
        return control_pb2.CheckpointRunResponse(
            run=self._view(self._now(run)), step=saved.step, path=saved.path
        )

    async def ListCheckpoints(  # noqa: N802
        self, request: control_pb2.ListCheckpointsRequest, context: _Context
    ) -> control_pb2.ListCheckpointsResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._checkpoints.list(context, run, request)

    async def VerifyCheckpoints(  # noqa: N802
        self, request: control_pb2.VerifyCheckpointsRequest, context: _Context
    ) -> control_pb2.VerifyCheckpointsResponse:
        """See control.proto."""
        return await self._checkpoints.verify(context, await self._find(context, request.run))

    async def AdoptCheckpoint(  # noqa: N802
        self, request: control_pb2.AdoptCheckpointRequest, context: _Context
    ) -> control_pb2.AdoptCheckpointResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._checkpoints.adopt(context, run, request.step)

    async def ExportCheckpoint(  # noqa: N802
        self, request: control_pb2.ExportCheckpointRequest, context: _Context
    ) -> control_pb2.ExportCheckpointResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._checkpoints.export(context, run, request)

    async def WatchRun(  # noqa: N802
        self, request: control_pb2.WatchRunRequest, context: _Context
    ) -> AsyncIterator[control_pb2.WatchRunResponse]:
        """See control.proto."""
        run = await self._find(context, request.run)
        async with aclosing(self._streams.watch(run.id, request.after_sequence)) as watched:
            async for response in watched:
                yield response

    async def ListEvents(  # noqa: N802
        self, request: control_pb2.ListEventsRequest, context: _Context
    ) -> AsyncIterator[control_pb2.ListEventsResponse]:
        """See control.proto."""
        run = (await self._find(context, request.run)).id if request.run else ""
        events = self._streams.events(run, request.after_sequence, follow=request.follow)
        async with aclosing(events):
            async for event in events:
                yield control_pb2.ListEventsResponse(event=event)

    async def ExplainRun(  # noqa: N802
        self, request: control_pb2.ExplainRunRequest, context: _Context
    ) -> control_pb2.ExplainRunResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        now = self._clock.now()
        return await explanation(self._runtime, self._views, self._deadlines, run, now=now)

    async def ListIncidents(  # noqa: N802
        self, request: control_pb2.ListIncidentsRequest, context: _Context
    ) -> control_pb2.ListIncidentsResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._files.incidents(context, run, request)

    async def GetIncident(  # noqa: N802
        self, request: control_pb2.GetIncidentRequest, context: _Context
    ) -> control_pb2.GetIncidentResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._files.incident(context, run, request.number)

    async def ReplayRunIncident(  # noqa: N802
        self, request: control_pb2.ReplayRunIncidentRequest, context: _Context
    ) -> control_pb2.ReplayRunIncidentResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._replaying.replay(context, run, request)

    async def GetPolicy(  # noqa: N802
        self, request: control_pb2.GetPolicyRequest, context: _Context
    ) -> control_pb2.GetPolicyResponse:
        """See control.proto."""
        return self._policies.get(await self._find(context, request.run))

    async def SetPolicy(  # noqa: N802
        self, request: control_pb2.SetPolicyRequest, context: _Context
    ) -> control_pb2.SetPolicyResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._policies.set(context, run.id, request)

    async def SimulatePolicy(  # noqa: N802
        self, request: control_pb2.SimulatePolicyRequest, context: _Context
    ) -> control_pb2.SimulatePolicyResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await simulated(context, self._runtime, self._views, run, request.policy)

    async def InjectFault(  # noqa: N802
        self, request: control_pb2.InjectFaultRequest, context: _Context
    ) -> control_pb2.InjectFaultResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._injecting.inject(context, run.id, request.injection)

    async def ReadRunLog(  # noqa: N802
        self, request: control_pb2.ReadRunLogRequest, context: _Context
    ) -> control_pb2.ReadRunLogResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._files.log(context, run, request)

    async def ListHosts(  # noqa: N802
        self,
        request: control_pb2.ListHostsRequest,  # noqa: ARG002
        context: _Context,  # noqa: ARG002
    ) -> control_pb2.ListHostsResponse:
        """See control.proto."""
        return self._hosts.list()

    async def DrainHost(  # noqa: N802
        self, request: control_pb2.DrainHostRequest, context: _Context
    ) -> control_pb2.DrainHostResponse:
        """See control.proto."""
        return await self._hosts.drain(context, request)

    async def UndrainHost(  # noqa: N802
        self, request: control_pb2.UndrainHostRequest, context: _Context
    ) -> control_pb2.UndrainHostResponse:
        """See control.proto."""
        return await self._hosts.undrain(context, request)

    async def ListStepMetrics(  # noqa: N802
        self, request: control_pb2.ListStepMetricsRequest, context: _Context
    ) -> control_pb2.ListStepMetricsResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        return await self._files.step_metrics(context, run, request)

    async def ProfileRun(  # noqa: N802
        self, request: control_pb2.ProfileRunRequest, context: _Context
    ) -> control_pb2.ProfileRunResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        made = await self._profiles.profile(context, run, request)
        return control_pb2.ProfileRunResponse(
            run=self._view(self._now(run)), path=made.path, step=made.step, steps=made.steps
        )

    async def CollectRunStacks(  # noqa: N802
        self, request: control_pb2.CollectRunStacksRequest, context: _Context
    ) -> control_pb2.CollectRunStacksResponse:
        """See control.proto."""
        run = await self._find(context, request.run)
        stacks = await self._profiles.stacks(context, run)
        return control_pb2.CollectRunStacksResponse(run=self._view(run), stacks=stacks)

    def _view(self, run: Run) -> run_pb2.Run:
        return self._views.snapshot(run, self._clock.now())

    def _now(self, run: Run) -> Run:
        return self._runtime.state.runs.get(run.id, run)

    async def _find(self, context: _Context, text: str) -> Run:
        return await find_run(self._runtime, context, text)
