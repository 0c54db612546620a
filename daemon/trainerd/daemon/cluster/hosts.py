"""What clients ask about hosts: ListHosts, DrainHost, UndrainHost."""

from __future__ import annotations

import socket
from typing import Any

import grpc

from trainerd.daemon.changes import Changes
from trainerd.daemon.cluster.facts import HostFacts
from trainerd.daemon.refusals import refuse
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.events import HostDrained, HostUndrained
from trainerd.v1 import control_pb2

_Context = grpc.aio.ServicerContext[Any, Any]


class Hosts:
    """Answers for one daemon; without a cluster there is one host."""

    def __init__(self, runtime: Runtime, changes: Changes, facts: HostFacts) -> None:
        self._runtime = runtime
        self._changes = changes
        self._facts = facts

    def list(self) -> control_pb2.ListHostsResponse:
        """All hosts."""
        return control_pb2.ListHostsResponse(hosts=self._facts.views(self._runtime.state))

    async def drain(
        self, context: _Context, request: control_pb2.DrainHostRequest
    ) -> control_pb2.DrainHostResponse:
        """Drain a host; answers when its trainers are gone, unless `no_wait`."""
        host = await self._find(context, request.host)
        if not self._runtime.state.hosts[host].draining:
            await self._changes.request(context, HostDrained(host=host))
        if not request.no_wait:
            await self._changes.until_state(context, lambda: not self._busy(host))
        return control_pb2.DrainHostResponse(host=self._view(host))

    async def undrain(
        self, context: _Context, request: control_pb2.UndrainHostRequest
    ) -> control_pb2.UndrainHostResponse:
        """Undrain a host."""
        host = await self._find(context, request.host)
        await self._changes.request(context, HostUndrained(host=host))
        return control_pb2.UndrainHostResponse(host=self._view(host))

    def _busy(self, host: str) -> bool:
        runs = self._runtime.state.runs.values()
        return any(host in run.members for run in runs if not run.over)

    def _view(self, host: str) -> control_pb2.Host:
        return self._facts.view(self._runtime.state, host)

    async def _find(self, context: _Context, name: str) -> str:
        state = self._runtime.state
        if name in state.hosts and name:
            return name
        if not state.local and name == socket.gethostname():
            return ""
        known = ", ".join(sorted(filter(None, state.hosts))[:20]) or socket.gethostname()
        message = f'there is no host "{name}"; there are: {known}'
        await refuse(context, grpc.StatusCode.NOT_FOUND, "HOST_NOT_FOUND", message)
