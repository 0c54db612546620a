"""A host's way to its supervisor: joins again and again, for as long as the daemon lives."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from trainerd.daemon.cluster.clock_offset import ClockOffset
from trainerd.daemon.cluster.relaying import Relay, RelayedWatch
from trainerd.daemon.launcher_link import LauncherLink
from trainerd.daemon.refusals import reason_of
from trainerd.v1 import host_pb2, host_pb2_grpc
from trainerd.v1.protocol import CHANNEL_OPTIONS, protocol, refusal

log = structlog.get_logger()

WELCOME_S = 20.0
"""Seconds until the supervisor has answered, the connection included."""
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Back-off between attempts to join; the last one is repeated."""
REFUSED_S = 15.0
"""The same where the supervisor has refused this host: somebody has to do something."""
_NO_REASON = "Internal error from Core"
_REFUSALS = {
    "PROTOCOL_MISMATCH",
    "BAD_NAME",
    "NAME_TAKEN",
    "NOT_ITS_NAME",
    "PERMISSION_DENIED",
    "REPLACED",
}

OPTIONS = [
    *((name, value) for name, value in CHANNEL_OPTIONS if "keepalive" not in name),
    # A cut link fails within two seconds; the supervisor sees by itself who says nothing.
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_000),
]

Connect = Callable[[], grpc.aio.Channel]
"""Opens a channel to the supervisor: certificates are read anew for each."""


class Joining:
    """Keeps this host joined. `problem`: why it is not, or empty."""

    def __init__(
        self, host: str, connect: Connect, launcher: LauncherLink, attach_address: str
    ) -> None:
        self._host = host
        self._connect = connect
        self._launcher = launcher
        self._attach_address = attach_address
        self._clocks = ClockOffset()
        self._instance = uuid.uuid4().hex
        self.relay: Relay | None = None
        self.problem = "not reached yet"

    async def run(self) -> None:
        """Join until cancelled."""
        failures, told = 0, ""
        while True:
            pause_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
            failures += 1
            try:
                await self._session()
                failures = 0
            except grpc.aio.AioRpcError as error:
                # A call that ended while it was written to does not say why; the next one will.
                if error.details() != _NO_REASON:
                    self.problem = error.details() or error.code().name
                if reason_of(error) in _REFUSALS:
                    pause_s = REFUSED_S
            except (OSError, TimeoutError) as error:
                self.problem = str(error) or f"no answer within {WELCOME_S:g} s"
            if self.problem != told:
                told = self.problem
                log.warning("supervisor_not_reached", error=told)
            await asyncio.sleep(pause_s)

    async def _session(self) -> None:
        """One life of the link; returns when one that stood is lost, raises when none comes up."""
        async with self._connect() as channel:
            stub: Any = host_pb2_grpc.HostServiceStub(channel)
            # Fails with the reason where no connection comes up; waiting for one would not tell it.
            stream = stub.Join()
            try:
                await self._joined(stream)
            finally:
                stream.cancel()

    async def _joined(self, stream: Any) -> None:  # noqa: ANN401 - grpc.aio's stream
        hello = host_pb2.HostHello(
            protocol=protocol(), host=self._host, pid=os.getpid(), instance=self._instance
        )
        async with asyncio.timeout(WELCOME_S):
            await stream.write(host_pb2.JoinRequest(hello=hello))
            first = await stream.read()
        if first is grpc.aio.EOF:
            raise OSError(await stream.details() or "the supervisor closed the link")
        problem = refusal(first.welcome.protocol, who="supervisor")
        if problem:
            raise OSError(problem)
        relay = Relay(self._launcher.calls, self._attach_address, self._clocks)
        watch = RelayedWatch(relay, first.welcome.acknowledged_exit)
        self.relay, self.problem = relay, ""
        log.info("joined", supervisor=first.welcome.protocol.software)
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._launcher.run(watch),
                relay.pulse(),
                _write(stream, relay),
                _read(stream, relay),
            )
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.relay = None
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            failed = next((each for each in outcomes if isinstance(each, Exception)), None)
            self.problem = _told(failed) or relay.waiting.problem or "the link is lost"
            await relay.close(self.problem)
        if isinstance(failed, grpc.aio.AioRpcError):
            raise failed


async def _write(stream: Any, relay: Relay) -> None:  # noqa: ANN401
    while reports := await relay.waiting.take():
        request = host_pb2.JoinRequest(reports=host_pb2.HostReports(reports=reports))
        await stream.write(request)


async def _read(stream: Any, relay: Relay) -> None:  # noqa: ANN401
    while (response := await stream.read()) is not grpc.aio.EOF:
        for order in response.orders.orders:
            relay.heard(order)


def _told(failed: Exception | None) -> str:
    if isinstance(failed, grpc.aio.AioRpcError):
        return failed.details() or failed.code().name
    return f"{type(failed).__name__}: {failed}" if failed is not None else ""
