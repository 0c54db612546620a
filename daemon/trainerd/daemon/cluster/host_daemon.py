"""The daemon of a host that joins a supervisor: it has no journal and decides nothing.

It keeps the link to its launcher, serves its trainers' socket, and passes everything on. Its
control service answers GetDaemon, and says of all the rest who answers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc
from prometheus_client import Gauge

from trainerd.daemon.announcing import Manner, announce
from trainerd.daemon.clock import Clock, SystemClock
from trainerd.daemon.cluster.config import ClusterConfig
from trainerd.daemon.cluster.joining import OPTIONS, Joining
from trainerd.daemon.cluster.relaying import RelayedTrainers
from trainerd.daemon.config import Config
from trainerd.daemon.control_plane import ControlPlane
from trainerd.daemon.introducing import introduce
from trainerd.daemon.launcher_link import LauncherLink, launcher_start
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.metrics_server import serve_metrics
from trainerd.daemon.refusals import refuse
from trainerd.daemon.reloading import Live
from trainerd.daemon.sign_of_life import SignOfLife
from trainerd.daemon.sockets import prepare_socket
from trainerd.daemon.trainer_server import serve_trainers
from trainerd.v1 import control_pb2, control_pb2_grpc
from trainerd.v1.service_manager import is_listening, sd_notify, watchdog_s

CLOSE_S = 0.5
METRICS_S = 1.0

_Context = grpc.aio.ServicerContext[Any, Any]


class HostDaemon:
    """A host's daemon that serves."""

    def __init__(
        self,
        config: Config,
        tasks: list[asyncio.Task[None]],
        *,
        joining: Joining,
        metrics_address: str,
        api_address: str,
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._joining = joining
        self.metrics_address = metrics_address
        self.api_address = api_address
        self.live: tuple[Live, ...] = ()
        """The parts that take a new configuration while the daemon serves."""

    @property
    def joined(self) -> bool:
        """Whether the supervisor is reached."""
        return self._joining.relay is not None

    @property
    def problem(self) -> str:
        """Why the supervisor is not reached; empty: it is."""
        return self._joining.problem

    def announce(self, manner: Manner) -> None:
        """Say that the daemon serves."""
        announce(self._config, manner, api=self.api_address, metrics=self.metrics_address)

    def check(self) -> None:
        """Raise if a part has ended by itself: a defect, and a reason to start anew."""
        for task in self._tasks:
            if task.done() and (error := task.exception()) is not None:
                raise RuntimeError(f"the daemon's {task.get_name()} ended: {error!r}") from error

    async def drain(self) -> None:
        """A private daemon has no cluster: there is nothing to drain."""


@contextlib.asynccontextmanager
async def joined(
    config: Config,
    stop: asyncio.Event,
    connect: Callable[[], grpc.aio.Channel] | None = None,
) -> AsyncIterator[HostDaemon]:
    """Put the parts together; end them in the reverse order. A part that ends by itself: `stop`.

    `connect`: how to reach the supervisor; None: as the configuration says. Raise `OSError`.
    """
    clock, host = SystemClock(), config.cluster.host
    metrics = Metrics(host)
    linked = Gauge(
        "trainerd_supervisor_linked",
        "1 while this host is joined to its supervisor.",
        registry=metrics.registry,
    )
    ours = config.daemon
    attach_address = prepare_socket(ours.attach_socket, mode=0o750, group=ours.attach_group)
    control_address = prepare_socket(ours.control_socket, mode=0o755, group=ours.control_group)
    launcher = LauncherLink(config.launcher.socket, launcher_start(config.launcher))
    reach = connect or (lambda: channel_to(config.cluster))
    joining = Joining(host, reach, launcher, attach_address)
    tasks: list[asyncio.Task[None]] = []

    def begin(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: stop.set())
        tasks.append(task)
        return task

    async with contextlib.AsyncExitStack() as stack:
        metrics_address = serve_metrics(config, metrics.registry, stack)
        relayed = RelayedTrainers(lambda: joining.relay)
        server = await serve_trainers(attach_address, relayed, group=ours.attach_group)
        stack.push_async_callback(server.stop, CLOSE_S)
        metrics_address = metrics_address or ""
        control = HostControl(  # type: ignore[abstract] # the rest is added below the class
            config.cluster, joining, launcher, clock, metrics_address=metrics_address
        )
        plane = ControlPlane(config, control, metrics, clock)
        stack.push_async_callback(plane.close, CLOSE_S)
        api_address = await plane.serve(control_address)
        works = [
            (joining.run(), "link to the supervisor"),
            (_shown(joining, launcher, metrics, linked, host), "metrics"),
        ]
        if is_listening(os.environ):
            works.append((_sign_of_life(joining, launcher, config.cluster).run(), "sign of life"))
        for work, name in works:
            stack.push_async_callback(_cancel, begin(work, name))
        daemon = HostDaemon(
            config,
            tasks,
            joining=joining,
            metrics_address=metrics_address,
            api_address=api_address,
        )
        daemon.live = (plane.live(),)
        yield daemon


def _sign_of_life(joining: Joining, launcher: LauncherLink, cluster: ClusterConfig) -> SignOfLife:
    def status() -> str:
        whose = f"host of the supervisor at {cluster.supervisor}"
        if joining.problem:
            return f"{whose}, not joined ({joining.problem})"
        return f"{whose}; launcher not linked ({launcher.problem})" if launcher.problem else whose

    return SignOfLife(
        notify=sd_notify,
        # It has no journal: that its loop turns is all there is to tell.
        probe=lambda: asyncio.sleep(0),
        status=status,
        watchdog_s=watchdog_s(os.environ, os.getpid()),
    )


def channel_to(cluster: ClusterConfig) -> grpc.aio.Channel:
    """A channel to the supervisor, with this host's certificates as they are now.

    Raise `OSError` if one cannot be read.
    """
    ca, cert, key = cluster.ca, cluster.cert, cluster.key
    if ca is None or cert is None or key is None:
        raise OSError("cluster.ca, cluster.cert and cluster.key must be given")
    credentials = grpc.ssl_channel_credentials(
        root_certificates=ca.read_bytes(),
        private_key=key.read_bytes(),
        certificate_chain=cert.read_bytes(),
    )
    return grpc.aio.secure_channel(cluster.supervisor, credentials, options=OPTIONS)


class HostControl(control_pb2_grpc.ControlServiceServicer):
    """The control service of a host that has joined: only what is of this daemon itself."""

    def __init__(
        self,
        cluster: ClusterConfig,
        joining: Joining,
        launcher: LauncherLink,
        clock: Clock,
        *,
        metrics_address: str,
    ) -> None:
        self._cluster = cluster
        self._joining = joining
        self._launcher = launcher
        self._clock = clock
        self._metrics_address = metrics_address
        self._started = clock.now()

    async def GetDaemon(  # noqa: N802
        self, request: control_pb2.GetDaemonRequest, context: _Context
    ) -> control_pb2.GetDaemonResponse:
        """See control.proto."""
        return await introduce(
            request,
            context,
            metrics_address=self._metrics_address,
            launcher_pid=self._launcher.pid,
            uptime_s=self._clock.now() - self._started,
            supervisor=self._cluster.supervisor,
            supervisor_problem=self._joining.problem,
        )


def _elsewhere(name: str) -> Callable[..., Coroutine[Any, Any, None]]:
    async def method(self: HostControl, request: object, context: _Context) -> None:  # noqa: ARG001
        supervisor = self._cluster.supervisor
        await refuse(
            context,
            grpc.StatusCode.FAILED_PRECONDITION,
            "ASK_THE_SUPERVISOR",
            f"this daemon is that of host {self._cluster.host}: "
            f"its runs are supervised at {supervisor}, ask there (--address {supervisor})",
            metadata={"supervisor": supervisor},
        )

    method.__name__ = name
    return method


for _method in control_pb2.DESCRIPTOR.services_by_name["ControlService"].methods:
    if _method.name != "GetDaemon":
        setattr(HostControl, _method.name, _elsewhere(_method.name))


async def _shown(
    joining: Joining, launcher: LauncherLink, metrics: Metrics, linked: Gauge, host: str
) -> None:
    while True:
        linked.set(joining.relay is not None)
        metrics.host_up.labels(host).set(launcher.calls.linked)
        await asyncio.sleep(METRICS_S)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
