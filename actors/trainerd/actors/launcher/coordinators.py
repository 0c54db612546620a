"""Coordination services of gangs: where the trainers of a run on several hosts meet."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

import grpc
import structlog

from trainerd.actors.launcher import environment
from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.logs import tail
from trainerd.actors.launcher.processes import Child, Children
from trainerd.actors.launcher.refusals import Refused, draining
from trainerd.actors.launcher.runs import RunFiles
from trainerd.v1 import launcher_pb2

START_TIMEOUT_S = 30.0
"""Seconds a service may take until it answers."""
HEARTBEAT_TIMEOUT_S = 100
"""Seconds of silence after which the service forgets a process. Whoever watches gangs is faster."""
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
    """Starts and ends them: one a run, that of the newest incarnation. Event loop's thread only."""

    def __init__(self, config: LauncherConfig, children: Children) -> None:
        self._config, self._children = config, children
        self._starting = asyncio.Lock()
        self._by_run: dict[str, Coordinator] = {}
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

    async def remove(self, run: str) -> None:
        """End whatever service a run has."""
        async with self._starting:
            await self._end(run)

    async def drain(self) -> None:
        """End all. Starts none from now on."""
        self._draining = True
        async with self._starting:
            for run in list(self._by_run):
                await self._end(run)

    async def _started(self, files: RunFiles, incarnation: int, processes: int) -> Coordinator:
        section = self._config.launcher
        files.make()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            log = os.open(
                files.coordinator_log,
                os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
                0o600,
            )
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                child = self._children.spawn(
                    _command(section.bind, processes),
                    environment=environment.build_environment(
                        python=sys.executable,
                        user=environment.User.current(),
                        devices={},
                        extra={},
                    ),
                    directory=str(files.root),
                    stdin=null,
                    stdout=writing,
                    stderr=log,
                )
            finally:
                os.close(log)
                os.close(null)
        except OSError as error:
            os.close(reading)
            raise _not_started(str(error)) from error
        finally:
            os.close(writing)
        try:
            said = await _first_line(reading)
        except BaseException:
            child.kill()
            raise
        if not said.isdigit():
            child.kill()
            await asyncio.wait([child.ended], timeout=END_TIMEOUT_S)
            why = tail(files.coordinator_log) or f"it did not answer within {START_TIMEOUT_S:g} s"
            raise _not_started(why)
        return Coordinator(
            incarnation=incarnation, address=f"{_host(section.advertise)}:{said}", child=child
        )

    async def _end(self, run: str) -> None:
        held = self._by_run.pop(run, None)
        if held is not None and held.lives:
            held.child.kill()
            await asyncio.wait([held.child.ended], timeout=END_TIMEOUT_S)
            _log.info("coordinator_ended", run=run, incarnation=held.incarnation)


def _command(bind: str, processes: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "trainerd.actors.coordinator",
        *("--bind", bind),
        *("--processes", str(processes)),
        *("--heartbeat-timeout-s", str(HEARTBEAT_TIMEOUT_S)),
        *("--launcher", str(os.getpid())),
    ]


async def _first_line(descriptor: int) -> str:
    """What the process says first; empty: nothing in time. Closes the descriptor."""
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=1024)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    try:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), pipe
        )
    except BaseException:
        pipe.close()
        raise
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            return (await stream.readline()).decode("ascii", "replace").strip()
    except (TimeoutError, ValueError):
        return ""
    finally:
        transport.close()


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
