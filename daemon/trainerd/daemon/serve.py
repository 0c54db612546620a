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
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import prometheus_client
import structlog

from trainerd.daemon.ageing import Ageing
from trainerd.daemon.api_server import listen
from trainerd.daemon.calls import defects
from trainerd.daemon.clock import SystemClock
from trainerd.daemon.config import Config, checked, load
from trainerd.daemon.control import Control
from trainerd.daemon.control_plane import ControlPlane
from trainerd.daemon.deadlines import Deadlines
from trainerd.daemon.effects import Effects
from trainerd.daemon.guarding import Guard
from trainerd.daemon.injecting import Permission
from trainerd.daemon.journal import Journal
from trainerd.daemon.launcher_link import LauncherLink, LauncherStart, launcher_command
from trainerd.daemon.links import TrainerLinks
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.monitor import Monitor
from trainerd.daemon.narration import narrate
from trainerd.daemon.notify import tell_parent
from trainerd.daemon.reloading import Live, Reloading
from trainerd.daemon.roles import Peer
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.scrubbing import Scrubber
from trainerd.daemon.sign_of_life import SignOfLife
from trainerd.daemon.sockets import prepare_socket, take_state_directory
from trainerd.daemon.status_line import status_line
from trainerd.daemon.supervision.events import DaemonEnded, DaemonStarted, StopRequested
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.timesheets import Timesheets
from trainerd.daemon.tokens import Tokens
from trainerd.daemon.verifying import Verifying
from trainerd.daemon.views import Views
from trainerd.daemon.watchers import Watchers
from trainerd.v1 import trainer_pb2_grpc
from trainerd.v1.mailbox import MailboxOverflow
from trainerd.v1.protocol import MAX_MESSAGE_BYTES, SERVER_OPTIONS, SOFTWARE
from trainerd.v1.service_manager import is_listening, sd_notify, watchdog_s

log = structlog.get_logger()

STDIN = 0
CLOSE_S = 0.5
"""Seconds that open calls may take when the daemon ends."""
DRAIN_S = 330.0
"""Seconds a private daemon gives its runs to save and stop."""
LAUNCHER_S = 60.0
"""Seconds a private daemon gives its launcher to end."""
TRAINER_STREAMS = 64
"""Streams at once on the attach socket; a host has one trainer, and the stream it replaces."""
_TRAINER = Peer(identity="trainer", roles=frozenset(), transport="unix")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How this daemon serves: private to its parent or not, and whom it tells that it is ready.

    load: reads the configuration again. live: parts beside the daemon's own that take a new one.
    """

    private: bool = False
    ready_fd: int | None = None
    load: Callable[[], Config] = lambda: load(None)
    live: tuple[Live, ...] = ()


async def serve(config: Config, manner: Manner) -> None:
    """Serve until told to end. Raise `OccupiedError`, `JournalError` or `OSError` at the start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
            stack.callback(loop.remove_signal_handler, number)
        stack.callback(os.close, take_state_directory(config.daemon.state_directory))
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
        control = f"unix:{self._config.daemon.control_socket}"
        log.info(
            "daemon_ready",
            control=control,
            api=self.api_address,
            metrics=self.metrics_address,
            pid=os.getpid(),
        )
        sd_notify("READY=1")
        if manner.ready_fd is not None:
            tell_parent(manner.ready_fd, f"READY {control} {self.metrics_address or '-'}")

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
                    if not any(run.trainer for run in runs):
                        break
                    await asyncio.sleep(0.02)
        if not await self._launcher.end_launcher(LAUNCHER_S):
            log.error("launcher_does_not_end", pid=self._launcher.pid)


@contextlib.asynccontextmanager
async def running(config: Config, journal: Journal, stop: asyncio.Event) -> AsyncIterator[Daemon]:
    """Put the parts together; end them in the reverse order. A part that ends by itself: `stop`."""
    clock, telemetry, watchers = SystemClock(), Telemetry(), Watchers()
    timesheets = Timesheets()
    metrics = Metrics(socket.gethostname(), lambda run: timesheets.seconds(run, clock.now()))
    runtime = Runtime(
        journal, clock, on_commit=metrics.committed, on_refusal=metrics.journal_refused
    )
    views = Views(telemetry, timesheets)
    deadlines = Deadlines(telemetry)
    _replay(runtime, clock, views, deadlines, metrics, timesheets=timesheets)
    for observer in (metrics.show, watchers.record, telemetry.record, narrate):
        runtime.observe(observer)

    ours = config.daemon
    attach_address = prepare_socket(ours.attach_socket, mode=0o750, group=ours.attach_group)
    control_address = prepare_socket(ours.control_socket, mode=0o755, group=ours.control_group)
    tokens = Tokens(config.daemon.state_directory / "token.key")
    links = TrainerLinks(runtime, telemetry, metrics, clock, tokens, timesheets=timesheets)
    launcher = LauncherLink(runtime, config.launcher.socket, _launcher_start(config))
    monitor = Monitor(runtime, telemetry, deadlines, metrics, clock)
    verifying = Verifying(runtime, views, launcher, clock)
    scrubber = Scrubber(runtime, views, watchers, verifying, clock)
    effects = Effects(
        runtime=runtime,
        views=views,
        links=links,
        launcher=launcher,
        tokens=tokens,
        telemetry=telemetry,
        clock=clock,
        attach_address=attach_address,
    )
    runtime.observe(effects.record)
    permission = Permission(config.injection.allowed)
    tasks: list[asyncio.Task[None]] = []

    def begin(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: stop.set())
        tasks.append(task)
        return task

    async with contextlib.AsyncExitStack() as stack:
        metrics_address = _serve_metrics(config, metrics, stack)
        control = Control(
            runtime=runtime,
            views=views,
            watchers=watchers,
            deadlines=deadlines,
            launcher=launcher,
            clock=clock,
            metrics_address=metrics_address,
            injection=permission,
            verifying=verifying,
            limits=config.limits,
        )
        begin(runtime.run(effects), "runtime")
        stack.push_async_callback(runtime.close)
        stack.push_async_exit(_end_in_order(runtime))
        stack.push_async_callback(effects.close)
        # Before anybody can attach: it says that no link is up.
        await runtime.post(DaemonStarted(version=SOFTWARE, pid=os.getpid()))
        effects.rearm(clock.now())
        await _serve_trainers(attach_address, ours.attach_group, links, stack)
        plane = ControlPlane(config, control, metrics, clock)
        stack.push_async_callback(plane.close, CLOSE_S)
        api_address = await plane.serve(control_address)
        runtime.observe(plane.record)
        ageing = Ageing(runtime, views, clock, config.retention)
        works = [
            (launcher.run(), "launcher link"),
            (monitor.run(), "monitor"),
            (scrubber.run(), "scrubber"),
            (ageing.run(), "ageing"),
        ]
        if is_listening(os.environ):
            works.append((_sign_of_life(runtime, views, launcher, clock).run(), "sign of life"))
        for work, name in works:
            stack.push_async_callback(_cancel, begin(work, name))
        daemon = Daemon(
            config,
            runtime,
            launcher,
            tasks,
            metrics_address=metrics_address,
            api_address=api_address,
        )
        daemon.live = (permission.live(), plane.live())
        yield daemon


def _replay(
    runtime: Runtime,
    clock: SystemClock,
    views: Views,
    deadlines: Deadlines,
    metrics: Metrics,
    *,
    timesheets: Timesheets,
) -> None:
    """Fold the journal into what rests on all of it, and go on with its time."""
    runtime.observe(lambda stored, _: views.apply(stored))
    runtime.observe(deadlines.record)
    runtime.observe(metrics.count)
    last = runtime.replay()
    if last is not None:
        clock.rebase(last_now=last.now, last_wall=last.wall)
    timesheets.replayed()
    metrics.restore(runtime.state, views.saves())


def _sign_of_life(
    runtime: Runtime, views: Views, launcher: LauncherLink, clock: SystemClock
) -> SignOfLife:
    def status() -> str:
        return status_line(runtime.state, views, now=clock.now(), launcher=launcher.problem)

    return SignOfLife(
        notify=sd_notify,
        probe=runtime.probe,
        status=status,
        watchdog_s=watchdog_s(os.environ, os.getpid()),
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


def _launcher_start(config: Config) -> LauncherStart | None:
    if not config.launcher.start:
        return None
    arguments = [
        "--state-directory",
        str(config.launcher.state_directory),
        "--socket",
        str(config.launcher.socket),
    ]
    if config.launcher.config:
        arguments += ["--config", config.launcher.config]
    return LauncherStart(
        command=launcher_command(tuple(arguments), config.launcher.python),
        log=config.launcher.state_directory / "launcher.log",
    )


def _serve_metrics(config: Config, metrics: Metrics, stack: contextlib.AsyncExitStack) -> str:
    """Start the HTTP server of /metrics in its own thread; return its address."""
    if not config.metrics.address:
        return ""
    host, _, port = config.metrics.address.rpartition(":")
    try:
        server, thread = prometheus_client.start_http_server(
            int(port), addr=host.strip("[]"), registry=metrics.registry
        )
    except OSError as error:
        raise OSError(
            f"metrics.address {config.metrics.address}: {error.strerror}; "
            f'choose another port, 0 for any free one, or "" for none'
        ) from error

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    stack.push_async_callback(asyncio.to_thread, end)
    return f"{host}:{server.server_port}"


async def _serve_trainers(
    address: str, group: str, links: TrainerLinks, stack: contextlib.AsyncExitStack
) -> None:
    # A trainer runs the user's code: what it sends is not trusted to be a message.
    guard = Guard(lambda _: _TRAINER, (defects,), request_bytes=MAX_MESSAGE_BYTES)
    server = grpc.aio.server(
        interceptors=[guard], options=SERVER_OPTIONS, maximum_concurrent_rpcs=TRAINER_STREAMS
    )
    trainer_pb2_grpc.add_TrainerServiceServicer_to_server(links, server)
    listen(server, address, group=group)
    await server.start()
    stack.push_async_callback(links.settled)
    stack.push_async_callback(server.stop, CLOSE_S)
    # No await between the two: no trainer can attach again.
    stack.callback(links.close)


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
