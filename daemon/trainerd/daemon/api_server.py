"""The servers of the control plane: one on the Unix socket, one on TCP with mutual TLS.

Both serve the same services, each call within the same layers. On the Unix socket its mode and its
group say who may call; on TCP the certificate does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from trainerd.daemon.api_config import LimitsConfig
from trainerd.daemon.guarding import Context, Guard, Layer
from trainerd.daemon.hiding import hide_values
from trainerd.daemon.roles import UNIX, Peer
from trainerd.daemon.sockets import give_to_group
from trainerd.v1.protocol import MAX_MESSAGE_BYTES, SERVER_OPTIONS

HANDSHAKE_MS = 10_000
"""Milliseconds a connection may take to become one of HTTP/2, with TLS where it has to be."""
IDLE_MS = 600_000
"""A connection without calls is closed after this; a client opens another one unasked."""
AGE_MS = 3_600_000
"""A TCP connection takes no new calls after this: the next one shows its certificate anew."""
STREAMS_A_CONNECTION = 512
BEYOND = 4
"""What gRPC itself cuts off is this many times the limit: below it the refusal has a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service by its full name, and what adds it to a server."""

    name: str
    add: Callable[[grpc.aio.Server], object]


class Health:
    """`grpc.health.v1` for all servers: "" and each service by its name."""

    def __init__(self) -> None:
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]

    def add(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)  # type: ignore[no-untyped-call]

    async def tell(self, service: str, *, serving: bool) -> None:
        """Say whether a service serves."""
        status = health_pb2.HealthCheckResponse
        await self._servicer.set(service, status.SERVING if serving else status.NOT_SERVING)

    async def end(self) -> None:
        """Nothing serves from now on."""
        await self._servicer.enter_graceful_shutdown()


class Servers:
    """Makes servers of the same services within the same layers."""

    def __init__(
        self,
        services: Sequence[Service],
        layers: Sequence[Layer],
        limits: LimitsConfig,
        healthy: Health,
    ) -> None:
        self._services = services
        self._layers = layers
        self._limits = limits
        self._health = healthy

    async def unix(self, address: str, *, group: str = "") -> grpc.aio.Server:
        """Serve on a Unix socket that its owner and its group may open. Raise OSError."""
        server = self._made(lambda _: UNIX, {})
        listen(server, address, group=group)
        await server.start()
        return server

    async def tcp(
        self,
        address: str,
        credentials: grpc.ServerCredentials,
        peer: Callable[[Context], Peer],
    ) -> tuple[grpc.aio.Server, str]:
        """Serve on TCP with these credentials; also return where. Raise OSError."""
        server = self._made(peer, {"grpc.max_connection_age_ms": AGE_MS})
        try:
            port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen at {address}: {error}") from error
        await server.start()
        return server, f"{address.rpartition(':')[0]}:{port}"

    def _made(self, peer: Callable[[Context], Peer], more: dict[str, int]) -> grpc.aio.Server:
        limits = self._limits
        options = {
            **dict(SERVER_OPTIONS),
            "grpc.max_receive_message_length": min(
                BEYOND * limits.request_bytes, MAX_MESSAGE_BYTES
            ),
            "grpc.max_metadata_size": limits.metadata_bytes,
            "grpc.absolute_max_metadata_size": limits.metadata_bytes,
            "grpc.server_handshake_timeout_ms": HANDSHAKE_MS,
            "grpc.max_connection_idle_ms": IDLE_MS,
            "grpc.max_concurrent_streams": STREAMS_A_CONNECTION,
            **more,
        }
        server = grpc.aio.server(
            interceptors=[
                Guard(
                    peer,
                    self._layers,
                    request_bytes=limits.request_bytes,
                    outgoing=hide_values,
                )
            ],
            options=list(options.items()),
            # Beyond this nothing is even read.
            maximum_concurrent_rpcs=2 * (limits.calls + limits.streams),
        )
        for service in self._services:
            service.add(server)
        self._health.add(server)
        names = (service.name for service in self._services)
        reflection.enable_server_reflection(  # type: ignore[no-untyped-call]
            (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        return server


def listen(server: grpc.aio.Server, address: str, *, group: str = "") -> None:
    """Bind a Unix socket that its owner and its group may open. Raise OSError.

    `group`: its name; "": the one that the directory gives.
    """
    # It appears with the process's umask: nobody else may connect before its mode is set.
    mask = os.umask(0o177)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen at {address}: {error}") from error
    finally:
        os.umask(mask)
    path = Path(address.removeprefix("unix:"))
    with contextlib.ExitStack() as undo:
        undo.callback(path.unlink, missing_ok=True)
        give_to_group(path, group)
        undo.pop_all()
    path.chmod(0o660)
