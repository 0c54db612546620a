"""`trainerd serve`: puts the parts together, serves until told to end, and ends in order.

SIGTERM and SIGINT flush the journal and end the daemon; the launcher and its trainers go on and
are adopted by the next daemon. SIGHUP has it read its configuration again. A *private* daemon
belongs to the process that started it: when it is told to end, or its standard input closes, it
stops its runs, then its launcher, then itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from trainerd.daemon.announcing import Manner, announce
from trainerd.daemon.api_server import Service
from trainerd.daemon.cluster.host_daemon import HostDaemon, joined
from trainerd.daemon.cluster.supervising import HostLinks
from trainerd.daemon.config import Config, checked
from trainerd.daemon.control_plane import ControlPlane
from trainerd.daemon.daemon_parts import assembled
from trainerd.daemon.journal import Journal
from trainerd.daemon.launcher_link import LauncherLink
from trainerd.daemon.metrics_server import serve_metrics
from trainerd.daemon.reloading import Live, Reloading
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.sockets import prepare_socket, take_state_directory
from trainerd.daemon.supervision.events import DaemonEnded, DaemonStarted, StopRequested
from trainerd.daemon.trainer_server import serve_trainers
from trainerd.v1 import host_pb2, host_pb2_grpc
from trainerd.v1.mailbox import MailboxOverflow
from trainerd.v1.protocol import SOFTWARE
from trainerd.v1.service_manager import is_listening, sd_notify

log = structlog.get_logger()

STDIN = 0
CLOSE_S = 0.5
"""Seconds that open calls may take when the daemon ends."""
DRAIN_S = 330.0
"""Seconds a private daemon gives its runs to save and stop."""
LAUNCHER_S = 60.0
"""Seconds a private daemon gives its launcher to end."""


async def serve(config: Config, manner: Manner) -> None:
    """Serve until told to end. Raise `OccupiedError`, `JournalError` or `OSError` at the start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
            stack.callback(loop.remove_signal_handler, number)
        stack.callback(os.close, take_state_directory(config.daemon.state_directory))
        daemon: Daemon | HostDaemon
        if config.cluster.joins:
            daemon = await stack.enter_async_context(joined(config, stop))
        else:
            journal = Journal(config.daemon.state_directory / "journal.sqlite")
            stack.callback(journal.close)
            daemon = await stack.enter_async_context(running(config, journal, stop))
        reloading = Reloading(config, manner.load, (*manner.live, *daemon.live))
        loop.add_signal_handler(signal.SIGHUP, reloading.on_signal)
        stack.callback(loop.remove_signal_handler, signal.SIGHUP)
        if manner.private:
            stack.callback(_stop_at_end_of_input(loop, stop))
        daemon.announce(manner)
        await stop.wait()
        with contextlib.suppress(OSError):
            sd_notify("STOPPING=1")
        if manner.private:
            await daemon.drain()
        daemon.check()
    log.info("daemon_ended")


class Daemon:
    """A daemon that serves: what `serve` still needs of its parts."""

    def __init__(
        self,
        config: Config,
        runtime: Runtime,
        launcher: LauncherLink,
        tasks: list[asyncio.Task[None]],
        *,
        metrics_address: str,
        api_address: str,
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._launcher = launcher
        self._tasks = tasks
        self.metrics_address = metrics_address
        self.api_address = api_address
        self.live: tuple[Live, ...] = ()
        """The parts that take a new configuration while the daemon serves."""

    def announce(self, manner: Manner) -> None:
        """Say that the daemon serves."""
        announce(self._config, manner, api=self.api_address, metrics=self.metrics_address)

    def check(self) -> None:
        """Raise if a part has ended by itself: a defect, and a reason to start anew."""
        for task in self._tasks:
            if task.done() and (error := task.exception()) is not None:
                raise RuntimeError(f"the daemon's {task.get_name()} ended: {error!r}") from error

    async def drain(self) -> None:
        """Stop every run with a save, then the launcher that this daemon started."""
        with contextlib.suppress(TimeoutError, MailboxOverflow, JournalFullError):
            async with asyncio.timeout(DRAIN_S):
                while True:
                    runs = list(self._runtime.state.runs.values())
                    for run in runs:
                        if not (run.terminal or run.stopping):
                            await self._runtime.post(StopRequested(run=run.id))
                    if not any(run.members for run in runs):
                        break
                    await asyncio.sleep(0.02)
        if not await self._launcher.end_launcher(LAUNCHER_S):
            log.error("launcher_does_not_end", pid=self._launcher.pid)


@contextlib.asynccontextmanager
async def running(config: Config, journal: Journal, stop: asyncio.Event) -> AsyncIterator[Daemon]:
    """Put the parts together; end them in the reverse order. A part that ends by itself: `stop`."""
    ours = config.daemon
    attach_address = prepare_socket(ours.attach_socket, mode=0o750, group=ours.attach_group)
    control_address = prepare_socket(ours.control_socket, mode=0o755, group=ours.control_group)
    parts = assembled(config, journal, attach_address)
    runtime, links, hosts = parts.runtime, parts.links, parts.hosts
    tasks: list[asyncio.Task[None]] = []

    def begin(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: stop.set())
        tasks.append(task)
        return task

    async with contextlib.AsyncExitStack() as stack:
        metrics_address = serve_metrics(config, parts.metrics.registry, stack)
        begin(runtime.run(parts.effects), "runtime")
        stack.push_async_callback(runtime.close)
        stack.push_async_exit(_end_in_order(runtime))
        stack.push_async_callback(parts.effects.close)
        # Before anybody can attach: it says that no link is up.
        started = DaemonStarted(version=SOFTWARE, pid=os.getpid(), host=parts.host)
        await runtime.post(started)
        parts.effects.rearm(parts.clock.now())
        trainer_server = await serve_trainers(attach_address, links, group=ours.attach_group)
        stack.push_async_callback(hosts.settled)
        stack.push_async_callback(links.settled)
        stack.push_async_callback(trainer_server.stop, CLOSE_S)
        # No await between the two: no trainer can attach again.
        stack.callback(links.close)
        more = [_hosts_service(hosts)] if config.cluster.supervises else []
        plane = ControlPlane(
            config, parts.control(metrics_address), parts.metrics, parts.clock, more=more
        )
        stack.push_async_callback(plane.close, CLOSE_S)
        stack.callback(hosts.close)
        api_address = await plane.serve(control_address)
        runtime.observe(plane.record)
        works = [
            (parts.launcher.run(parts.watch), "launcher link"),
            (parts.monitor.run(), "monitor"),
            (hosts.run(), "hosts"),
            (parts.scrubber().run(), "scrubber"),
            (parts.ageing().run(), "ageing"),
        ]
        if is_listening(os.environ):
            works.append((parts.sign_of_life().run(), "sign of life"))
        for work, name in works:
            stack.push_async_callback(_cancel, begin(work, name))
        daemon = Daemon(
            config,
            runtime,
            parts.launcher,
            tasks,
            metrics_address=metrics_address,
            api_address=api_address,
        )
        daemon.live = (parts.permission.live(), plane.live())
        yield daemon


def _hosts_service(hosts: HostLinks) -> Service:
    return Service(
        name=host_pb2.DESCRIPTOR.services_by_name["HostService"].full_name,
        add=lambda server: host_pb2_grpc.add_HostServiceServicer_to_server(hosts, server),
    )


def _end_in_order(runtime: Runtime) -> Callable[..., Coroutine[Any, Any, None]]:
    """Journal that the daemon ends, unless a defect ends it: one that starts next can tell."""

    async def end(kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                await runtime.post(DaemonEnded())
            except (MailboxOverflow, JournalFullError) as error:
                log.warning("end_not_recorded", error=str(error))

    return end


def _stop_at_end_of_input(
    loop: asyncio.AbstractEventLoop, stop: asyncio.Event
) -> Callable[[], object]:
    """A private daemon's standard input is its lifeline; return what lets go of it."""

    def readable() -> None:
        if not os.read(STDIN, 4096):
            loop.remove_reader(STDIN)
            stop.set()

    try:
        loop.add_reader(STDIN, readable)
    except OSError:
        # Closed, a regular file or /dev/null: there is no lifeline then.
        return lambda: None
    return lambda: loop.remove_reader(STDIN)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def for_address(config: Config, address: str) -> Config:
    """The configuration of a daemon that answers at this address (`unix:PATH`).

    Raise `ConfigError` if it cannot be one.
    """
    path = Path(address.removeprefix("unix:"))
    return checked(replace(config, daemon=replace(config.daemon, control_socket=path)))
