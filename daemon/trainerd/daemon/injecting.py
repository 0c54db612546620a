"""Faults on purpose: only where this daemon's configuration allows them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from trainerd.daemon import codec
from trainerd.daemon.changes import Changes
from trainerd.daemon.clock import Clock
from trainerd.daemon.config import Config
from trainerd.daemon.drill_problems import injection_problems
from trainerd.daemon.drills import asked_for
from trainerd.daemon.refusals import refuse, refuse_invalid
from trainerd.daemon.reloading import Live
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.events import InjectionRequested
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, inject_pb2, run_pb2

NOT_ALLOWED = "this daemon does not allow faults on purpose"
HOW_TO_ALLOW = "set allowed = true under [injection] in the daemon's configuration, and reload it"
NOW = 1
"""Every step makes at least so many applied updates: what is due then is due at once."""
SOON_S = 3.0
"""What all processes of a gang do at one step is asked for so far ahead: each must hear in time."""
_TOGETHER = (inject_pb2.INJECTED_FAULT_NAN, inject_pb2.INJECTED_FAULT_LOSS_SPIKE)

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class Permission:
    """Whether faults may be made to happen; an operator may change it while the daemon runs."""

    allowed: bool

    def live(self) -> Live:
        """The part of the daemon that takes `[injection]` while it runs."""

        def prepare(config: Config) -> Callable[[], None]:
            return lambda: setattr(self, "allowed", config.injection.allowed)

        return Live(keys=frozenset({"injection.allowed"}), prepare=prepare)


class Injecting:
    """Takes injections for runs that live."""

    def __init__(
        self, runtime: Runtime, changes: Changes, permission: Permission, views: Views, clock: Clock
    ) -> None:
        self._runtime = runtime
        self._changes = changes
        self._permission = permission
        self._views, self._clock = views, clock
        self._one_by_one = asyncio.Lock()

    def problems(self, spec: run_pb2.RunSpec) -> list[control_pb2.Problem]:
        """What is wrong with asking this daemon for the faults of a specification."""
        if self._permission.allowed or not asked_for(spec):
            return []
        return [
            control_pb2.Problem(
                field="inject", message=f"inject: {NOT_ALLOWED}", suggestion=HOW_TO_ALLOW
            )
        ]

    async def check(self, context: _Context, spec: run_pb2.RunSpec) -> None:
        """End the call if the specification asks for faults that this daemon does not allow."""
        if asked_for(spec):
            await self._check(context)

    async def inject(
        self, context: _Context, run_id: str, wanted: inject_pb2.Injection
    ) -> control_pb2.InjectFaultResponse:
        """Have a fault happen in a run; answer when that is journalled."""
        await self._check(context)
        problems = list(injection_problems("injection", wanted, now=True))
        if problems:
            await refuse_invalid(context, problems, what="injection")
        injection = inject_pb2.Injection()
        injection.CopyFrom(wanted)
        if not injection.probability:
            injection.step = max(injection.step, self._first_step(run_id, injection))
        event = InjectionRequested(run=run_id, injection=codec.injection_of(injection))
        # One at a time: the newest injection is then the one that was asked for.
        async with self._one_by_one:
            await self._changes.request(context, event)
            run = self._runtime.state.runs.get(run_id)
            number = run.injections[-1].number if run is not None else 0
        return control_pb2.InjectFaultResponse(number=number)

    def _first_step(self, run_id: str, injection: inject_pb2.Injection) -> int:
        run = self._runtime.state.runs.get(run_id)
        if run is None or run.size < 2 or injection.fault not in _TOGETHER:
            return NOW
        seen = self._views.snapshot(run, self._clock.now())
        return seen.step + math.ceil(seen.steps_per_second * SOON_S) + 1

    async def _check(self, context: _Context) -> None:
        if not self._permission.allowed:
            await refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                "INJECTION_NOT_ALLOWED",
                f"{NOT_ALLOWED}: {HOW_TO_ALLOW}",
            )
