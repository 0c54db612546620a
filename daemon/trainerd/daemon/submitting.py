"""SubmitRun: from a specification to a run, once for each request id."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import PurePosixPath
from typing import Any

import grpc

from trainerd.daemon import codec
from trainerd.daemon.api_config import LimitsConfig
from trainerd.daemon.changes import Changes
from trainerd.daemon.checking import Checking
from trainerd.daemon.finding import find_run
from trainerd.daemon.injecting import Injecting
from trainerd.daemon.refusals import refuse, refuse_invalid
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.events import RunState
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.terms import with_defaults
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, run_pb2

MAX_REQUEST_ID = 128

_Context = grpc.aio.ServicerContext[Any, Any]


class Submitting:
    """Takes submissions, one at a time."""

    def __init__(
        self,
        runtime: Runtime,
        views: Views,
        changes: Changes,
        checking: Checking,
        injecting: Injecting,
        *,
        limits: LimitsConfig,
    ) -> None:
        self._limits = limits
        self._runtime = runtime
        self._views = views
        self._changes = changes
        self._checking = checking
        self._injecting = injecting
        self._one_by_one = asyncio.Lock()

    async def submit(self, context: _Context, request: control_pb2.SubmitRunRequest) -> Run:
        """The run of this request: a new one, or the one that its request id has made before."""
        if len(request.request_id) > MAX_REQUEST_ID:
            await refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                "REQUEST_ID_TOO_LONG",
                f"request_id must have at most {MAX_REQUEST_ID} characters, "
                f"got {len(request.request_id)}",
            )
        run = self._by_request_id(request.request_id)
        if run is None:
            await self._injecting.check(context, request.spec)
            program = not request.skip_program_check
            problems = await self._checking.problems(request.spec, program=program)
            if problems:
                await refuse_invalid(context, problems)
            # One at a time: two submits with one request id must become one run.
            async with self._one_by_one:
                run = self._by_request_id(request.request_id)
                if run is None:
                    return await self._submit(context, request)
        await self._refuse_another(context, run, request)
        return run

    async def _submit(self, context: _Context, request: control_pb2.SubmitRunRequest) -> Run:
        runs = self._runtime.state.runs
        await self._refuse_if_full(context)
        spec = with_defaults(request.spec)
        resumed: str = ""
        places: tuple[str, ...] = ()
        if request.resume_run:
            resumed, places = await self._resumption(context, spec, request.resume_run)
        run = ""
        while not run or run in runs or run in self._runtime.state.removals:
            run = f"{request.spec.name}-{secrets.token_hex(3)}"
        event = codec.submission(
            run, spec, request.request_id, resumed_run=resumed, restore_directories=places
        )
        await self._changes.post(context, event)
        return self._runtime.state.runs[run]

    async def _refuse_another(
        self, context: _Context, run: Run, request: control_pb2.SubmitRunRequest
    ) -> None:
        """A request id that stands for something else is a mistake: do not answer with that."""
        was, now = self._views.spec(run.id), with_defaults(request.spec)
        # Whatever else of a specification may change in the life of its run.
        differing = [
            name
            for name in ("name", "entry", "args", "trainer", "checkpoint", "hosts")
            if getattr(was, name) != getattr(now, name)
        ]
        differing += [
            f"train.{name}"
            for name in ("steps", "global_batch", "seed")
            if getattr(was.train, name) != getattr(now.train, name)
        ]
        if differing:
            await refuse(
                context,
                grpc.StatusCode.ALREADY_EXISTS,
                "REQUEST_ID_REUSED",
                f"request_id {request.request_id} is that of {run.id}, which has another "
                f"{', '.join(differing)}: use a new id for a new run",
            )

    async def _refuse_if_full(self, context: _Context) -> None:
        runs, limits = self._runtime.state.runs, self._limits
        queued = sum(run.state is RunState.QUEUED for run in runs.values())
        reason = problem = ""
        if len(runs) >= limits.runs:
            reason = "TOO_MANY_RUNS"
            problem = f"the daemon keeps {len(runs)} runs, limits.runs = {limits.runs}: delete some"
        elif queued >= limits.queued:
            reason = "TOO_MANY_QUEUED"
            problem = f"{queued} runs wait, limits.queued = {limits.queued}: stop some, or wait"
        if problem:
            await refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, reason, problem)

    async def _resumption(
        self, context: _Context, spec: run_pb2.RunSpec, text: str
    ) -> tuple[str, tuple[str, ...]]:
        """The run whose state a new one begins with, and where that state is."""
        old = await find_run(self._runtime, context, text)
        before = self._views.spec(old.id)
        problems = [
            control_pb2.Problem(
                field=f"train.{name}",
                message=f"train.{name} must be that of {old.id}, {was}, got {now}",
                suggestion="the order of the data and the cut of a batch depend on it",
            )
            for name in ("seed", "global_batch", "microbatch", "accumulate_steps")
            if (was := getattr(before.train, name)) != (now := getattr(spec.train, name))
        ]
        if problems:
            await refuse_invalid(context, problems)
        save = self._views.saves().get(old.id)
        places = self._views.restore_directories(old.id)
        if save is not None:
            places = (str(PurePosixPath(save.message.checkpoint_saved.path).parent), *places)
        problem = ""
        if not old.terminal:
            problem = f"run {old.id} has not ended: it is {old.state.value}; stop it first"
        elif not places:
            problem = f"run {old.id} has no durable checkpoint to go on from"
        if problem:
            await refuse(
                context, grpc.StatusCode.FAILED_PRECONDITION, "REFUSED_IN_THIS_STATE", problem
            )
        return old.id, places

    def _by_request_id(self, request_id: str) -> Run | None:
        if not request_id:
            return None
        runs = self._runtime.state.runs.values()
        return next((run for run in runs if run.request_id == request_id), None)
