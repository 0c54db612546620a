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

from trainerd.daemon.config import LauncherConfig
from trainerd.daemon.launcher_calls import LauncherCalls
from trainerd.daemon.launcher_watch import Watch
from trainerd.daemon.runtime import JournalFullError
from trainerd.daemon.sockets import answers
from trainerd.v1 import launcher_pb2, launcher_pb2_grpc
from trainerd.v1.mailbox import MailboxOverflow
from trainerd.v1.protocol import CHANNEL_OPTIONS, protocol, refusal

log = structlog.get_logger()

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


def launcher_start(config: LauncherConfig) -> LauncherStart | None:
    """How the configuration has the launcher started; None: somebody else does."""
    if not config.start:
        return None
    arguments = ["--state-directory", str(config.state_directory), "--socket", str(config.socket)]
    if config.config:
        arguments += ["--config", config.config]
    return LauncherStart(
        command=launcher_command(tuple(arguments), config.python),
        log=config.state_directory / "launcher.log",
    )


class LauncherLink:
    """Reaches the launcher again and again until closed."""

    def __init__(self, path: Path, start: LauncherStart | None) -> None:
        self.calls = LauncherCalls(self._linked)
        self._socket = path
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._stub: launcher_pb2_grpc.LauncherServiceAsyncStub | None = None
        self._ending = False
        self.pid = 0
        self.problem = "not reached yet"

    async def run(self, watch: Watch) -> None:
        """Keep the link up until cancelled, or until the launcher was told to end.

        `watch` hears what the launcher says. Once cancelled, it may be run again with another one.
        """
        try:
            await self._run(watch)
        finally:
            self._stub, self.pid = None, 0

    async def _run(self, watch: Watch) -> None:
        failures, told = 0, ""
        while not self._ending:
            failures += 1
            try:
                await self._session(watch)
            except (grpc.aio.AioRpcError, OSError, MailboxOverflow, JournalFullError) as error:
                self.problem = _describe(error)
                if self.problem != told:
                    told = self.problem
                    log.warning("launcher_unreachable", socket=str(self._socket), error=told)
            if self._stub is not None:
                self._stub, self.pid = None, 0
                failures, told = 0, ""
                await watch.lost(self.problem)
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])

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

    async def _session(self, watch: Watch) -> None:
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
                protocol=protocol(), after_sequence=watch.acknowledged
            )
            async for response in stub.WatchTrainers(request):
                if response.WhichOneof("payload") == "hello":
                    await self._attached(watch, stub, response.hello)
                else:
                    await watch.exited(response.exit)
        self.problem = "the launcher closed the link"

    async def _attached(
        self,
        watch: Watch,
        stub: launcher_pb2_grpc.LauncherServiceAsyncStub,
        hello: launcher_pb2.LauncherHello,
    ) -> None:
        problem = refusal(hello.protocol, who="launcher")
        if problem:
            raise OSError(problem)
        # Whoever is told of it may ask for something at once.
        self._stub, self.pid, self.problem = stub, hello.pid, ""
        await watch.attached(hello)

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
