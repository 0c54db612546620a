"""The launchers of the cluster: whom to ask about which host and which run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import grpc

from trainerd.daemon.launcher_calls import LauncherCalls
from trainerd.daemon.supervision.state import Run
from trainerd.v1 import incident_pb2, launcher_pb2


class Launchers:
    """Launchers by host. `local`: the daemon's own host, and its launcher."""

    def __init__(self, local: str, calls: LauncherCalls) -> None:
        self._local = local
        self._calls = {local: calls}

    def add(self, host: str, calls: LauncherCalls) -> None:
        """A host has joined."""
        self._calls[host] = calls

    def remove(self, host: str, calls: LauncherCalls) -> None:
        """A host's link is lost; a newer one stays."""
        if self._calls.get(host) is calls and host != self._local:
            del self._calls[host]

    @property
    def linked(self) -> bool:
        """Whether any launcher can be asked for something now."""
        return any(calls.linked for calls in self._calls.values())

    def of(self, host: str) -> LauncherCalls:
        """A host's launcher. Raise `OSError` if the host is not linked."""
        calls = self._calls.get(host)
        if calls is None:
            raise OSError(f"host {host} is not linked")
        return calls

    def any(self) -> LauncherCalls:
        """One that can be asked for something now: this host's, if it can."""
        own = self._calls[self._local]
        if own.linked:
            return own
        return next((calls for calls in self._calls.values() if calls.linked), own)

    def of_run(self, run: Run, host: str = "") -> LauncherCalls:
        """One that has files of the run: that of `host`, or of the first process's host."""
        return self.all_of(run, host)[0]

    def name_of(self, calls: LauncherCalls) -> str:
        """The host whose launcher that is; of one that has gone meanwhile: the daemon's own."""
        return next((host for host, each in self._calls.items() if each is calls), self._local)

    def left(self, run: str, hosts: Iterable[str]) -> bool:
        """Whether files of a run stay on one of these hosts for now."""
        return any(host not in self._calls or self._calls[host].left(run) for host in hosts)

    async def incident(
        self, run: Run, number: int
    ) -> tuple[LauncherCalls, launcher_pb2.ReadIncidentResponse]:
        """One incident of a run with its evidence, and who keeps it; number 0: the newest.

        Raise `OSError` and `AioRpcError` as the calls do.
        """
        those = self.all_of(run)
        if not number and len(those) > 1:
            kept = [each for calls in those for each in (await _incidents(calls, run)).incidents]
            number = max((each.number for each in kept), default=0)
        for calls in those[:-1]:
            with contextlib.suppress(grpc.aio.AioRpcError, OSError):
                return calls, await calls.read_incident(run.id, number)
        return those[-1], await those[-1].read_incident(run.id, number)

    async def incidents(self, run: Run) -> list[incident_pb2.Incident]:
        """All incidents of a run that are kept where one can ask; raise as the calls do."""
        those = self.all_of(run)
        found = [each for calls in those for each in (await _incidents(calls, run)).incidents]
        return sorted(found, key=lambda incident: incident.number)

    def all_of(self, run: Run, host: str = "") -> list[LauncherCalls]:
        """All that have files of the run and can be asked now, those it trains on first."""
        hosts = (host,) if host else (*run.allotted, *reversed(run.touched))
        known = [self._calls[each] for each in dict.fromkeys(hosts) if each in self._calls]
        if host and not known:
            raise OSError(f"host {host} is not linked")
        return [calls for calls in known if calls.linked] or [*known, self.any()][:1]


async def _incidents(calls: LauncherCalls, run: Run) -> launcher_pb2.ReadIncidentsResponse:
    return await calls.read_incidents(run.id)
