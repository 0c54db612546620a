"""Serves the control service, and ends it in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc
from prometheus_client import Counter

from trainerd.daemon.api_server import Health, Servers, Service
from trainerd.daemon.audit import Audit
from trainerd.daemon.audit_file import AuditFile
from trainerd.daemon.calls import CallTimes, Deadlines, Ending, Quotas, access, defects
from trainerd.daemon.certificates import CertificateError, CertificateFiles, certificate_problems
from trainerd.daemon.clock import Clock
from trainerd.daemon.config import Config, ConfigError
from trainerd.daemon.journal import Stored
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.reloading import Live
from trainerd.daemon.roles import Roles
from trainerd.daemon.supervision.state import State
from trainerd.daemon.tls import Certificates, TlsMetrics
from trainerd.v1 import control_pb2, control_pb2_grpc, launcher_pb2, trainer_pb2

CONTROL: str = control_pb2.DESCRIPTOR.services_by_name["ControlService"].full_name
TRAINERS: str = trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"].full_name
LAUNCHER: str = launcher_pb2.DESCRIPTOR.services_by_name["LauncherService"].full_name


LIVE = frozenset(
    {
        "api.roles",
        "limits.call_s",
        "limits.calls",
        "limits.calls_per_client",
        "limits.streams",
        "limits.streams_per_client",
    }
)
"""Keys that need no new servers."""


class ControlPlane:
    """The servers of one daemon, their layers, their health."""

    def __init__(
        self,
        config: Config,
        control: control_pb2_grpc.ControlServiceServicer,
        metrics: Metrics,
        clock: Clock,
        *,
        more: Sequence[Service] = (),
    ) -> None:
        """`more`: services beside the control service, on both servers."""
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._servers: list[grpc.aio.Server] = []
        self._telling: set[asyncio.Task[None]] = set()
        self._ending = Ending()
        self._quotas = Quotas(config.limits)
        self._deadlines = Deadlines(config.limits)
        self._roles = Roles(config.api.roles)
        lost = Counter(
            "trainerd_audit_write_failures",
            "Lines of the audit log that could not be written.",
            registry=metrics.registry,
        )
        self._audit_file = AuditFile(config.daemon.state_directory / "audit.jsonl", config.audit)
        self._audit = Audit(self._audit_file, wall=clock.wall, on_failure=lost.inc)
        self.health = Health()
        self._services = (
            Service(
                name=CONTROL,
                add=lambda server: control_pb2_grpc.add_ControlServiceServicer_to_server(
                    control, server
                ),
            ),
            *more,
        )

    async def serve(self, control_address: str) -> str:
        """Serve on the Unix socket, and on TCP where the configuration has it; return where.

        Raise OSError if an address cannot be had, or the certificates cannot be used.
        """
        limits = self._config.limits
        # Outermost first. A call that is refused is timed and, where it would have changed
        # something, audited too.
        layers = (
            CallTimes(self._metrics.rpc_s),
            defects,
            self._ending,
            self._audit.denials,
            access,
            self._quotas,
            self._audit,
            self._deadlines,
        )
        servers = Servers(self._services, layers, limits, self.health)
        group = self._config.daemon.control_group
        self._servers.append(await servers.unix(control_address, group=group))
        address = ""
        api = self._config.api
        if api.listen:
            try:
                certificates = Certificates(
                    CertificateFiles.of(api), TlsMetrics(self._metrics.registry)
                )
            except CertificateError as error:
                raise OSError("; ".join(error.problems)) from error
            server, address = await servers.tcp(
                api.listen, certificates.server_credentials(), self._roles.peer
            )
            self._servers.append(server)
        for name in (TRAINERS, *(service.name for service in self._services)):
            await self.health.tell(name, serving=True)
        await self.health.tell(LAUNCHER, serving=False)
        return address

    def live(self) -> Live:
        """The part of the daemon that takes `[api.roles]` and limits while it runs.

        Certificates that could not be used are a mistake of the file, though none is read here.
        """

        def prepare(config: Config) -> Callable[[], None]:
            if problems := certificate_problems(config.api):
                raise ConfigError(problems)
            return lambda: self.apply(config)

        return Live(keys=LIVE, prepare=prepare)

    def apply(self, config: Config) -> None:
        """Go by another configuration, as far as that needs no new servers.

        Roles, and the limits on calls, streams and their time; certificates need no telling.
        """
        self._roles.apply(config.api.roles)
        self._quotas.limits = config.limits
        self._deadlines.call_s = config.limits.call_s

    def record(self, stored: Stored, state: State) -> None:  # noqa: ARG002 - an observer
        """The launcher's health is that of the link to it."""
        serving = {"launcher_attached": True, "launcher_lost": False}.get(stored.kind)
        if serving is not None:
            task = asyncio.create_task(self.health.tell(LAUNCHER, serving=serving))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def close(self, grace_s: float) -> None:
        """Say that nothing serves, let quick calls finish, tell the others, end the servers."""
        await asyncio.gather(*self._telling)
        await self.health.end()
        await self._ending.close(grace_s)
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))
        self._audit_file.close()
