"""`trainerd serve`: puts the parts together, serves until told to end, and ends in order.

SIGTERM and SIGINT flush the journal and end the daemon; the launcher and its trainers go on and
are adopted by the next daemon. A *private* daemon belongs to the process that started it: when it
is told to end, or its standard input closes, it stops its runs, then its launcher, then itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import prometheus_client
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from trainerd.daemon.calls import CallTimes
from trainerd.daemon.clock import SystemClock
from trainerd.daemon.config import Config
from trainerd.daemon.control import Control
from trainerd.daemon.effects import Effects
from trainerd.daemon.journal import Journal, Stored
from trainerd.daemon.launcher_link import LauncherLink, LauncherStart, launcher_command
from trainerd.daemon.links import Tokens, TrainerLinks
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.monitor import Monitor
from trainerd.daemon.notify import sd_notify, tell_parent
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.sockets import prepare_socket, take_state_directory
from trainerd.daemon.supervision.events import DaemonStarted, StopRequested
from trainerd.daemon.supervision.state import State
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.views import Views
from trainerd.daemon.watchers import Watchers
from trainerd.v1 import control_pb2, control_pb2_grpc, fault_pb2, trainer_pb2_grpc
from trainerd.v1.protocol import SERVER_OPTIONS, SOFTWARE

log = structlog.get_logger()

CLOSE_S = 2.0
"""Seconds that open calls may take when the daemon ends."""
DRAIN_S = 330.0
"""Seconds a private daemon gives its runs to save and stop."""
LAUNCHER_S = 60.0
"""Seconds a private daemon gives its launcher to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How this daemon serves: private to its parent or not, and whom it tells that it is ready."""

    private: bool = False
    ready_fd: int | None = None


async def serve(config: Config, manner: Manner) -> None:
    """Serve until told to end. Raise `OccupiedError`, `JournalError` or `OSError` at the start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    lock = take_state_directory(config.daemon.state_directory)
    journal = Journal(config.daemon.state_directory / "journal.sqlite")
    try:
        async with _daemon(config, journal) as daemon:
            if manner.private:
                _stop_at_end_of_input(loop, stop)
            daemon.announce(manner)
            await stop.wait()
            sd_notify("STOPPING=1")
            if manner.private:
                await daemon.drain()
    finally:
        journal.close()
        os.close(lock)
    log.info("daemon_ended")


class _Daemon:
    """A daemon that serves: what `serve` still needs of its parts."""

    def __init__(
        self, config: Config, runtime: Runtime, launcher: LauncherLink, metrics_address: str
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._launcher = launcher
        self._metrics_address = metrics_address

    def announce(self, manner: Manner) -> None:
        """Say that the daemon serves."""
        control = f"unix:{self._config.daemon.control_socket}"
        log.info("daemon_ready", control=control, metrics=self._metrics_address, pid=os.getpid())
        sd_notify("READY=1")
        if manner.ready_fd is not None:
            tell_parent(manner.ready_fd, f"READY {control} {self._metrics_address or '-'}")

    async def drain(self) -> None:
        """Stop every run with a save, then the launcher that this daemon started."""
        live = [run for run in self._runtime.state.runs.values() if not run.terminal]
        for run in live:
            if not run.stopping:
                await self._runtime.post(StopRequested(run=run.id))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while any(run.trainer for run in self._runtime.state.runs.values()):
                    await asyncio.sleep(0.02)
        self._launcher.terminate()
        if not await self._launcher.wait_ended(LAUNCHER_S):
            log.error("launcher_does_not_end", pid=self._launcher.pid)


@contextlib.asynccontextmanager
async def _daemon(config: Config, journal: Journal) -> AsyncIterator[_Daemon]:
    clock, telemetry, watchers = SystemClock(), Telemetry(), Watchers()
    metrics = Metrics(socket.gethostname())
    runtime = Runtime(journal, clock, on_commit=metrics.journal_s.observe)
    views = Views(telemetry)
    runtime.observe(lambda stored, _: views.apply(stored))
    last = runtime.replay()
    if last is not None:
        clock.rebase(last_now=last.now, last_wall=last.wall)
    metrics.restore(runtime.state)
    runtime.observe(metrics.record)
    runtime.observe(watchers.record)
    runtime.observe(_Recoveries(telemetry).record)

    tokens = Tokens(config.daemon.state_directory / "token.key")
    links = TrainerLinks(runtime, telemetry, metrics, clock, tokens)
    launcher = LauncherLink(runtime, config.launcher.socket, _launcher_start(config))
    attach_address = prepare_socket(config.daemon.attach_socket, mode=0o750)
    effects = Effects(
        runtime=runtime,
        views=views,
        links=links,
        launcher=launcher,
        tokens=tokens,
        attach_address=attach_address,
    )
    metrics_server, metrics_address = _serve_metrics(config, metrics)
    control = Control(
        runtime=runtime,
        views=views,
        watchers=watchers,
        launcher=launcher,
        clock=clock,
        metrics_address=metrics_address,
    )
    trainer_server = await _trainer_server(attach_address, links)
    control_server = await _control_server(config, control, metrics)
    monitor = Monitor(runtime, telemetry, metrics, clock)
    tasks = [asyncio.create_task(runtime.run(effects), name="runtime")]
    try:
        await runtime.post(DaemonStarted(version=SOFTWARE, pid=os.getpid()))
        effects.rearm(clock.now())
        tasks.append(asyncio.create_task(launcher.run(), name="launcher"))
        tasks.append(asyncio.create_task(monitor.run(), name="monitor"))
        yield _Daemon(config, runtime, launcher, metrics_address)
    finally:
        links.close()
        await asyncio.gather(control_server.stop(CLOSE_S), trainer_server.stop(CLOSE_S))
        await effects.close()
        await _cancel(tasks[1:])
        await runtime.close()
        await _cancel(tasks[:1])
        if metrics_server is not None:
            metrics_server.shutdown()
            metrics_server.server_close()


class _Recoveries:
    """Starts the recovery clock of a run when a restart is decided."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def record(self, stored: Stored, state: State) -> None:  # noqa: ARG002 - an observer
        if stored.kind != "decision_made":
            return
        made = stored.message.decision_made
        if made.decision.action == fault_pb2.ACTION_RESTART:
            name = fault_pb2.FaultClass.Name(getattr(made.fault, "class"))
            fault_class = name.removeprefix("FAULT_CLASS_").lower()
            self._telemetry.of(stored.message.run).fault(fault_class, stored.now)


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


def _serve_metrics(config: Config, metrics: Metrics) -> tuple[Any, str]:
    """Start the HTTP server of /metrics in its own thread; return it and its address."""
    if not config.metrics.address:
        return None, ""
    host, _, port = config.metrics.address.rpartition(":")
    try:
        server, _ = prometheus_client.start_http_server(
            int(port), addr=host, registry=metrics.registry
        )
    except OSError as error:
        raise OSError(
            f"metrics.address {config.metrics.address}: {error.strerror}; "
            f'choose another port, 0 for any free one, or "" for none'
        ) from error
    return server, f"{host}:{server.server_port}"


async def _trainer_server(address: str, links: TrainerLinks) -> grpc.aio.Server:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    trainer_pb2_grpc.add_TrainerServiceServicer_to_server(links, server)
    server.add_insecure_port(address)
    await server.start()
    Path(address.removeprefix("unix:")).chmod(0o660)
    return server


async def _control_server(config: Config, control: Control, metrics: Metrics) -> grpc.aio.Server:
    address = prepare_socket(config.daemon.control_socket, mode=0o755)
    server = grpc.aio.server(interceptors=[CallTimes(metrics.rpc_s)], options=SERVER_OPTIONS)
    control_pb2_grpc.add_ControlServiceServicer_to_server(control, server)
    servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    name = control_pb2.DESCRIPTOR.services_by_name["ControlService"].full_name
    reflection.enable_server_reflection(  # type: ignore[no-untyped-call]
        (name, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    server.add_insecure_port(address)
    # The socket appears with the process's umask; nobody else may connect before its mode is set.
    mask = os.umask(0o177)
    try:
        await server.start()
    finally:
        os.umask(mask)
    config.daemon.control_socket.chmod(0o660)
    await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server


def _stop_at_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """A private daemon's standard input is its lifeline."""
    fd = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(fd, 4096):
            loop.remove_reader(fd)
            stop.set()

    # Regular files and /dev/null cannot be watched: there is no lifeline then.
    with contextlib.suppress(PermissionError):
        loop.add_reader(fd, readable)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def for_address(config: Config, address: str) -> Config:
    """The configuration of a daemon that answers at this address (`unix:PATH`)."""
    path = Path(address.removeprefix("unix:"))
    return replace(config, daemon=replace(config.daemon, control_socket=path))
