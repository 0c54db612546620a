"""Coordination services of gangs: where the trainers of a run on several hosts meet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import structlog

from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.coordinator_process import CoordinatorProcess
from trainerd.actors.launcher.logs import tail
from trainerd.actors.launcher.processes import Child, Children
from trainerd.actors.launcher.refusals import Refused, draining
from trainerd.actors.launcher.runs import RunFiles
from trainerd.v1 import launcher_pb2

START_TIMEOUT_S = 30.0
"""Seconds a service may take until it answers."""
SPARE_S = 60.0
"""Seconds that a process begun for the next incarnation outlives the service of the last one."""
MOST_PROCESSES = 65_536
END_TIMEOUT_S = 5.0

_log = structlog.get_logger("trainerd.launcher")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """One that answers at `address`, host:port, as other hosts reach it."""

    incarnation: int
    address: str
    child: Child

    @property
    def lives(self) -> bool:
        """Whether its process has not ended."""
        return not self.child.ended.done()


class Coordinators:
    """Starts and ends them: one a run, that of the newest incarnation. Event loop's thread only.

    While one serves, the process of the next one is begun; where that is not wanted, or has died,
    a start takes longer.
    """

    def __init__(self, config: LauncherConfig, children: Children) -> None:
        self._config, self._children = config, children
        self._starting = asyncio.Lock()
        self._by_run: dict[str, Coordinator] = {}
        self._spares: dict[str, CoordinatorProcess] = {}
        self._draining = False

    async def start(self, request: launcher_pb2.StartCoordinatorRequest) -> Coordinator:
        """Start the service of an incarnation; that of an older one is ended.

        Returns once it answers. Idempotent while it lives. Raise `Refused`.
        """
        run, incarnation = request.run, request.incarnation
        if incarnation < 1 or not 1 <= request.process_count <= MOST_PROCESSES:
            raise _invalid(
                f"incarnation must be ≥ 1 and process_count 1 to {MOST_PROCESSES}, got "
                f"{incarnation} and {request.process_count}"
            )
        try:
            files = RunFiles.of(self._config.state, run)
        except ValueError as error:
            raise _invalid(str(error)) from error
        async with self._starting:
            if self._draining:
                raise draining()
            held = self._by_run.get(run)
            if held is not None and held.incarnation == incarnation and held.lives:
                return held
            if held is not None and held.incarnation > incarnation:
                raise Refused(
                    code=grpc.StatusCode.FAILED_PRECONDITION,
                    reason="STALE_INCARNATION",
                    message=f"incarnation {incarnation} of {run} is past: the coordination service "
                    f"of {held.incarnation} was started",
                )
            await self._end(run)
            coordinator = await self._started(files, incarnation, request.process_count)
            self._by_run[run] = coordinator
        _log.info(
            "coordinator_started",
            run=run,
            incarnation=incarnation,
            pid=coordinator.child.pid,
            address=coordinator.address,
        )
        return coordinator

    async def stop(self, run: str, incarnation: int) -> None:
        """End the service of an incarnation, if there is one. Returns when it is gone."""
        async with self._starting:
            held = self._by_run.get(run)
            if held is not None and held.incarnation == incarnation:
                await self._end(run)
                self._later(SPARE_S, lambda: self._drop_unused(run))

    async def remove(self, run: str) -> None:
        """End whatever service a run has."""
        async with self._starting:
            await self._end(run)
            self._drop_spare(run)

    async def drain(self) -> None:
        """End all. Starts none from now on."""
        self._draining = True
        async with self._starting:
            for run in list(self._by_run):
                await self._end(run)
            for run in list(self._spares):
                self._drop_spare(run)

    async def _started(self, files: RunFiles, incarnation: int, processes: int) -> Coordinator:
        section = self._config.launcher
        spare = self._spares.pop(files.root.name, None)
        if spare is not None and not spare.lives:
            spare.close()
            spare = None
        try:
            process = spare or CoordinatorProcess.begin(self._config, self._children, files)
        except OSError as error:
            raise _not_started(str(error)) from error
        try:
            said = await process.serve(processes, START_TIMEOUT_S)
        except BaseException:
            process.close()
            raise
        if not said.isdigit():
            process.close()
            await asyncio.wait([process.child.ended], timeout=END_TIMEOUT_S)
            why = tail(files.coordinator_log) or f"it did not answer within {START_TIMEOUT_S:g} s"
            raise _not_started(why)
        self._later(self._config.launcher.standby_after_s, lambda: self._prepare(files))
        return Coordinator(
            incarnation=incarnation,
            address=f"{_host(section.advertise)}:{said}",
            child=process.child,
        )

    def _prepare(self, files: RunFiles) -> None:
        """Begin the process of the run's next incarnation, while this one trains."""
        run = files.root.name
        held, spare = self._by_run.get(run), self._spares.get(run)
        unwanted = self._draining or not self._config.launcher.standby
        if unwanted or held is None or (spare is not None and spare.lives):
            return
        self._drop_spare(run)
        try:
            self._spares[run] = CoordinatorProcess.begin(self._config, self._children, files)
        except OSError as error:
            _log.warning("coordinator_not_prepared", run=run, error=str(error))

    def _drop_spare(self, run: str) -> None:
        spare = self._spares.pop(run, None)
        if spare is not None:
            spare.close()

    def _drop_unused(self, run: str) -> None:
        if run not in self._by_run:
            self._drop_spare(run)

    def _later(self, delay_s: float, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay_s, work)

    async def _end(self, run: str) -> None:
        held = self._by_run.pop(run, None)
        if held is not None and held.lives:
            held.child.kill()
            await asyncio.wait([held.child.ended], timeout=END_TIMEOUT_S)
            _log.info("coordinator_ended", run=run, incarnation=held.incarnation)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _invalid(message: str) -> Refused:
    return Refused(
        code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_ARGUMENT", message=message
    )


def _not_started(why: str) -> Refused:
    return Refused(
        code=grpc.StatusCode.UNAVAILABLE,
        reason="COORDINATOR_NOT_STARTED",
        message=f"the coordination service could not be started: {why}",
        suggestion="see that launcher.advertise and launcher.bind name this host",
    )
