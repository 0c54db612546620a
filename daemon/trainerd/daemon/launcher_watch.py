"""What a launcher's watch says, as events: its situation, exits, and that it is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.events import (
    LauncherAttached,
    LauncherLost,
    LiveTrainer,
    TrainerExited,
)
from trainerd.daemon.timesheets import activity_times
from trainerd.v1 import launcher_pb2
from trainerd.v1.mailbox import MailboxOverflow

log = structlog.get_logger()


class Watch(Protocol):
    """Hears what a launcher says. `acknowledged`: the newest exit that need not be said again."""

    @property
    def acknowledged(self) -> int: ...

    async def attached(self, hello: launcher_pb2.LauncherHello) -> None: ...

    async def exited(self, record: launcher_pb2.ExitRecord) -> None: ...

    async def lost(self, reason: str) -> None: ...


class LauncherWatch:
    """Posts what the launcher of one host says. `acknowledged`: the newest exit journalled."""

    def __init__(
        self,
        runtime: Runtime,
        host: str,
        *,
        devices: Callable[[str, str], None] = lambda _host, _devices: None,
    ) -> None:
        """`devices`: told the host and what devices its launcher has."""
        self._runtime = runtime
        self._devices = devices
        self._host = host
        self.acknowledged = 0

    async def attached(self, hello: launcher_pb2.LauncherHello) -> None:
        """The launcher's greeting, whose protocol can be spoken."""
        self._devices(self._host, hello.devices)
        trainers = tuple(
            LiveTrainer(run=each.run, incarnation=each.incarnation, pid=each.pid)
            for each in hello.trainers
        )
        await self._runtime.post(
            LauncherAttached(
                instance=hello.instance, pid=hello.pid, trainers=trainers, host=self._host
            )
        )

    async def exited(self, record: launcher_pb2.ExitRecord) -> None:
        """A trainer process ended."""
        if self._concerns_anybody(record):
            exited = record.exited
            await self._runtime.post(
                TrainerExited(
                    run=record.run,
                    incarnation=record.incarnation,
                    exit_code=exited.exit_code,
                    signal=exited.signal,
                    killed_by_launcher=exited.killed_by_launcher,
                    log_tail=exited.log_tail,
                    stacks=exited.stacks,
                    times=activity_times(exited.times),
                    drained=exited.drained,
                    host=self._host,
                )
            )
        else:
            # Told again by a launcher that had no acknowledgement yet.
            log.debug("exit_known", run=record.run, incarnation=record.incarnation)
        self.acknowledged = max(self.acknowledged, record.sequence)

    async def lost(self, reason: str) -> None:
        """The watch is over."""
        try:
            await self._runtime.post(LauncherLost(reason=reason, host=self._host))
        except (MailboxOverflow, JournalFullError) as error:
            log.warning("launcher_loss_not_recorded", error=str(error))

    def _concerns_anybody(self, record: launcher_pb2.ExitRecord) -> bool:
        state = self._runtime.state
        host = state.hosts.get(self._host)
        if host is not None and (record.run, record.incarnation) in host.leftovers:
            return True
        run = state.runs.get(record.run)
        alive = run is not None and self._host in run.members
        return alive and run is not None and run.incarnation == record.incarnation
