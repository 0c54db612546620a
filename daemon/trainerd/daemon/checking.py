"""Everything that is wrong with a specification and with its program, before a run is accepted."""

from __future__ import annotations

import grpc
import structlog

from trainerd.daemon.clock import Clock
from trainerd.daemon.launchers import Launchers
from trainerd.daemon.validation import problems_of
from trainerd.daemon.watchers import Watchers
from trainerd.v1 import control_pb2, run_pb2

log = structlog.get_logger()

LAUNCHER_WAIT_S = 15.0
"""Seconds a submit waits for a launcher that is being started, to have the program checked."""


class Checking:
    """Validates specifications, and has programs loaded by the launcher where there is one."""

    def __init__(
        self, launchers: Launchers, watchers: Watchers, clock: Clock, *, most_hosts: int
    ) -> None:
        self._launchers = launchers
        self._most_hosts = most_hosts
        self._watchers = watchers
        self._clock = clock

    async def problems(self, spec: run_pb2.RunSpec, *, program: bool) -> list[control_pb2.Problem]:
        """Everything wrong with a specification and, where it can be loaded, with its program."""
        problems = problems_of(spec, most_hosts=self._most_hosts)
        loadable = not any(
            problem.field.partition(".")[0] in ("entry", "trainer") for problem in problems
        )
        if program and loadable and await self._launcher_linked():
            try:
                found = await self._launchers.any().check_program(spec)
            except (grpc.aio.AioRpcError, OSError) as error:
                # The trainer will find out; a launcher in trouble must not refuse a good run.
                log.warning("program_not_checked", error=str(error))
            else:
                known = {problem.field for problem in problems}
                problems += [problem for problem in found if problem.field not in known]
        return problems

    async def _launcher_linked(self) -> bool:
        deadline = self._clock.now() + LAUNCHER_WAIT_S
        with self._watchers.watch() as watcher:
            while not self._launchers.linked and self._clock.now() < deadline:
                await watcher.wait(0.5)
                watcher.take()
        return self._launchers.linked
