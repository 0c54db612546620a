"""The process of one coordination service: begun early, and told how many it serves when it must.

What takes its time is to import what it serves with. So one can be begun before anybody needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from trainerd.actors.launcher import environment
from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.processes import Child, Children
from trainerd.actors.launcher.runs import RunFiles

HEARTBEAT_TIMEOUT_S = 100
"""Seconds of silence after which the service forgets a process. Whoever watches gangs is faster."""


class CoordinatorProcess:
    """Owns its pipes until it has answered or is closed; the process itself is `child`."""

    def __init__(self, child: Child, asking: int, answers: int) -> None:
        self.child = child
        self._asking, self._answers = asking, answers

    @classmethod
    def begin(
        cls, config: LauncherConfig, children: Children, files: RunFiles
    ) -> CoordinatorProcess:
        """Start it; it waits to be asked. Raise OSError."""
        files.make()
        pipes: list[int] = []
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            pipes.append(os.open(files.coordinator_log, flags, 0o600))
            pipes.extend(os.pipe2(os.O_CLOEXEC))
            pipes.extend(os.pipe2(os.O_CLOEXEC))
            log, asked, asking, answers, answering = pipes
            child = children.spawn(
                _command(config.launcher.bind),
                environment=environment.build_environment(
                    python=sys.executable,
                    user=environment.User.current(),
                    devices={},
                    extra={},
                ),
                directory=str(files.root),
                stdin=asked,
                stdout=answering,
                stderr=log,
            )
        except OSError:
            for descriptor in pipes:
                os.close(descriptor)
            raise
        for descriptor in (log, asked, answering):
            os.close(descriptor)
        return cls(child, asking, answers)

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return not self.child.ended.done()

    async def serve(self, processes: int, timeout_s: float) -> str:
        """Let it serve so many processes; return the port it says, or what else it said in time."""
        asking, self._asking = self._asking, -1
        with contextlib.suppress(BrokenPipeError), os.fdopen(asking, "wb", buffering=0) as stream:
            stream.write(b"%d\n" % processes)
        answers, self._answers = self._answers, -1
        return await _first_line(answers, timeout_s)

    def close(self) -> None:
        """End it, and let go of the pipes."""
        self.child.kill()
        for descriptor in (self._asking, self._answers):
            if descriptor >= 0:
                os.close(descriptor)
        self._asking = self._answers = -1


def _command(bind: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "trainerd.actors.coordinator",
        *("--bind", bind),
        *("--heartbeat-timeout-s", str(HEARTBEAT_TIMEOUT_S)),
        *("--launcher", str(os.getpid())),
    ]


async def _first_line(descriptor: int, timeout_s: float) -> str:
    """What is said first; empty: nothing in time. Closes the descriptor."""
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
        async with asyncio.timeout(timeout_s):
            return (await stream.readline()).decode("ascii", "replace").strip()
    except (TimeoutError, ValueError):
        return ""
    finally:
        transport.close()
