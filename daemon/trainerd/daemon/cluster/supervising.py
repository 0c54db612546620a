"""HostService: the supervisor's end of the links to all other hosts.

A host that says nothing for `SILENT_S` is lost, whatever its connection looks like: it says
something every second. The newest link of a host's daemon replaces an older one; another daemon of
that name waits until the one that is linked is gone, or the trainers of both would be mixed up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import structlog

from trainerd.daemon.clock import Clock
from trainerd.daemon.cluster.config import is_name
from trainerd.daemon.cluster.facts import HostFacts
from trainerd.daemon.cluster.host_link import HostLink
from trainerd.daemon.launcher_watch import LauncherWatch
from trainerd.daemon.launchers import Launchers
from trainerd.daemon.links import TrainerLinks
from trainerd.daemon.reach import Reach
from trainerd.daemon.refusals import refuse
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.events import HostJoined, HostLost
from trainerd.v1 import host_pb2, host_pb2_grpc
from trainerd.v1.mailbox import MailboxOverflow
from trainerd.v1.protocol import protocol, refusal

log = structlog.get_logger()

HELLO_S = 10.0
"""Seconds a fresh stream may take to greet."""
SILENT_S = 2.5
"""Seconds after which a host that says nothing is lost; it says something every second."""
LOOK_S = 0.25
STALL_S = 1.0
"""Seconds beyond which this daemon itself was away: hosts are then heard before they are judged."""
RETRY_S = 1.0

_Context = grpc.aio.ServicerContext[host_pb2.JoinRequest, host_pb2.JoinResponse]
Named = Callable[[_Context], str | None]
"""The only name that the caller's certificate allows a host to join under; None: any."""


class HostLinks(host_pb2_grpc.HostServiceServicer):
    """Serves `Join`."""

    def __init__(
        self,
        runtime: Runtime,
        launchers: Launchers,
        trainers: TrainerLinks,
        clock: Clock,
        *,
        facts: HostFacts,
        reach: Reach,
        named: Named,
    ) -> None:
        self._runtime = runtime
        self._launchers = launchers
        self._trainers = trainers
        self._clock = clock
        self._facts = facts
        self._reach = reach
        self._named = named
        self._links: dict[str, HostLink] = {}
        self._watches: dict[str, LauncherWatch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def Join(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[host_pb2.JoinRequest], context: _Context
    ) -> AsyncIterator[host_pb2.JoinResponse]:
        """See host.proto."""
        # Before anything is waited for: gRPC cannot tell once the connection is gone.
        peer, named = context.peer(), self._named(context)
        hello = await self._greeting(request_iterator, context, named)
        host = hello.host
        await self._refuse_namesake(hello, context)
        watch = self._watches.setdefault(
            host, LauncherWatch(self._runtime, host, devices=self._facts.devices)
        )
        link = HostLink(
            host, watch, self._trainers, self._facts, instance=hello.instance, peer=peer
        )
        older = self._links.get(host)
        self._links[host] = link
        if older is not None:
            log.warning("host_joined_again", host=host, peer=peer)
            older.waiting.end(f"replaced by a newer link of host {host}")
        # A call that its client leaves is cancelled, here and in every wait of a `finally`: what
        # must be done at the end is done by a task of ours.
        reader = asyncio.create_task(self._read(request_iterator, link))
        joined = HostJoined(host=host, address=peer, software=hello.protocol.software)
        self._facts.heard(host)
        try:
            await self._runtime.post(joined)
            self._launchers.add(host, link.calls)
            welcome = host_pb2.HostWelcome(
                protocol=protocol(), acknowledged_exit=watch.acknowledged
            )
            yield host_pb2.JoinResponse(welcome=welcome)
            log.info("host_joined", host=host, peer=peer)
            while orders := await link.waiting.take():
                yield host_pb2.JoinResponse(orders=host_pb2.HostOrders(orders=orders))
            if self._links.get(host) is not link:
                replaced = f"another daemon has joined as host {host}"
                await refuse(context, grpc.StatusCode.ABORTED, "REPLACED", replaced)
        except (MailboxOverflow, JournalFullError) as error:
            # It tries again.
            link.waiting.end(str(error))
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "NOT_RECORDED", str(error))
        finally:
            reader.cancel()
            task = asyncio.create_task(self._over(link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Look for hosts that say nothing, until cancelled."""
        looked_at = self._clock.now()
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._clock.now()
            away = now - looked_at > STALL_S
            looked_at = now
            for host, link in self._links.items():
                heard_at = self._facts.heard_at(host)
                if away:
                    self._facts.heard(host)
                elif heard_at is not None and now - heard_at > SILENT_S:
                    link.waiting.end(f"it said nothing for {now - heard_at:.1f} s")

    def close(self) -> None:
        """End every link, unrecorded: the next daemon begins without any, and the hosts join it."""
        self._closed = True
        for link in self._links.values():
            link.waiting.end("the supervisor's daemon ends")

    async def settled(self) -> None:
        """Wait until every link that has ended is told of."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _greeting(
        self,
        requests: AsyncIterator[host_pb2.JoinRequest],
        context: _Context,
        named: str | None,
    ) -> host_pb2.HostHello:
        try:
            async with asyncio.timeout(HELLO_S):
                first = await anext(aiter(requests))
        except (TimeoutError, StopAsyncIteration):
            await refuse(context, grpc.StatusCode.DEADLINE_EXCEEDED, "NO_GREETING", "no greeting")
        hello, code = first.hello, grpc.StatusCode.FAILED_PRECONDITION
        problem = refusal(hello.protocol, who="host")
        if problem:
            await refuse(context, code, "PROTOCOL_MISMATCH", problem)
        if not is_name(hello.host):
            code = grpc.StatusCode.INVALID_ARGUMENT
            await refuse(context, code, "BAD_NAME", f'"{hello.host}" cannot be the name of a host')
        if hello.host == self._runtime.state.local:
            taken = f"{hello.host} is the name of the supervisor's own host: set cluster.name"
            await refuse(context, code, "NAME_TAKEN", taken)
        if named is not None and named != hello.host:
            code = grpc.StatusCode.PERMISSION_DENIED
            other = f"the certificate is that of host {named}, it cannot join as {hello.host}"
            await refuse(context, code, "NOT_ITS_NAME", other)
        return hello

    async def _refuse_namesake(self, hello: host_pb2.HostHello, context: _Context) -> None:
        linked = self._links.get(hello.host)
        if linked is None or linked.instance == hello.instance or linked.waiting.problem:
            return
        taken = (
            f"another daemon is linked as host {hello.host}, from {linked.peer}: end that one, or "
            f"set cluster.name"
        )
        await refuse(context, grpc.StatusCode.ALREADY_EXISTS, "NAME_LINKED", taken)

    async def _read(self, requests: AsyncIterator[host_pb2.JoinRequest], link: HostLink) -> None:
        """Take everything the host says; end the link when that is over."""
        reason = "the host closed the link"
        try:
            async for request in requests:
                self._facts.heard(link.host)
                for report in request.reports.reports:
                    link.heard(report)
        except Exception as error:
            log.exception("host_link_broken", host=link.host)
            reason = f"{type(error).__name__}: {error}"
        link.waiting.end(reason)

    async def _over(self, link: HostLink) -> None:
        """Tell that a host is lost, unless a newer link of it is there."""
        reason = link.waiting.problem or "the link is lost"
        self._launchers.remove(link.host, link.calls)
        newest = self._links.get(link.host) is link
        if newest:
            del self._links[link.host]
            self._reach.lost(link.host, self._facts.heard_at(link.host))
            log.warning("host_lost", host=link.host, reason=reason)
            await self._tell_lost(link.host, reason)
        await link.close(reason)

    async def _tell_lost(self, host: str, reason: str) -> None:
        """Post it, unless the host is back before the journal can be written."""
        while host not in self._links and not self._closed:
            try:
                await self._runtime.post(HostLost(host=host, reason=reason))
                return
            except (MailboxOverflow, JournalFullError) as error:
                log.warning("host_event_delayed", error=str(error))
                await asyncio.sleep(RETRY_S)
