"""ProfileRun and CollectRunStacks: looking at a live run from the inside."""

from __future__ import annotations

import secrets
from typing import Any, NoReturn

import grpc
from google.rpc import error_details_pb2

from trainerd.daemon.changes import Changes
from trainerd.daemon.launcher_link import LauncherLink
from trainerd.daemon.refusals import reason_of, refuse
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.events import ProfileRequested
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.watchers import Watcher, Watchers
from trainerd.v1 import control_pb2, event_pb2, run_pb2

MOST_STEPS = 200
MOST_PATH = 4096

_Context = grpc.aio.ServicerContext[Any, Any]


class Profiles:
    """Asks for one call; ends it with the reason where there is nothing to be had."""

    def __init__(
        self, runtime: Runtime, changes: Changes, watchers: Watchers, launcher: LauncherLink
    ) -> None:
        self._runtime, self._changes, self._watchers = runtime, changes, watchers
        self._launcher = launcher

    async def profile(
        self, context: _Context, run: Run, request: control_pb2.ProfileRunRequest
    ) -> event_pb2.Profiled:
        """Have a profile taken, and wait for it unless told not to."""
        await _check(context, request)
        request_id = secrets.token_hex(8)
        with self._watchers.watch(run.id) as watcher:
            await self._changes.request(
                context,
                ProfileRequested(
                    run=run.id,
                    request_id=request_id,
                    steps=request.steps,
                    directory=request.directory,
                ),
            )
            if request.no_wait:
                return event_pb2.Profiled()
            return await self._taken(context, run.id, request_id, watcher)

    async def stacks(self, context: _Context, run: Run) -> run_pb2.ThreadStacks:
        """The stacks of the run's live trainer."""
        if run.trainer is None:
            await refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                "REFUSED_IN_THIS_STATE",
                f"run {run.id} is {run.state.value}: it has no trainer now",
            )
        try:
            return (await self._launcher.collect_stacks(run.id)).stacks
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error) or "STACKS_UNREADABLE"
            await refuse(context, error.code(), reason, error.details() or "")
        except OSError as error:
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "LAUNCHER_UNLINKED", str(error))

    async def _taken(
        self, context: _Context, run: str, request_id: str, watcher: Watcher
    ) -> event_pb2.Profiled:
        """Wait for the answer to this request. `watcher` was there before the request."""
        while True:
            await watcher.wait(1.0)
            events, _ = watcher.take()
            for event in events:
                if event.profiled.request_id == request_id:
                    if event.profiled.problem:
                        await _failed(context, run, event.profiled.problem)
                    return event.profiled
            now = self._runtime.state.runs.get(run)
            if now is None or now.profile is None or now.profile.request_id != request_id:
                newer = now is not None and now.profile is not None
                why = "another one was asked for" if newer else "its trainer ended before"
                await _failed(context, run, why)


async def _check(context: _Context, request: control_pb2.ProfileRunRequest) -> None:
    problems = []
    if not 1 <= request.steps <= MOST_STEPS:
        problems.append(("steps", f"steps must be 1 to {MOST_STEPS}, got {request.steps}"))
    directory = request.directory
    if directory and not (directory.startswith("/") and len(directory) <= MOST_PATH):
        problems.append(("directory", "directory must be an absolute path on the run's host"))
    if problems:
        violations = error_details_pb2.BadRequest()
        for field, message in problems:
            violations.field_violations.add(field=field, description=message)
        told = "; ".join(message for _, message in problems)
        code = grpc.StatusCode.INVALID_ARGUMENT
        await refuse(context, code, "INVALID_PROFILE", told, violations)


async def _failed(context: _Context, run: str, why: str) -> NoReturn:
    told = f"no profile of run {run} was taken: {why}"
    await refuse(context, grpc.StatusCode.ABORTED, "PROFILE_FAILED", told)
