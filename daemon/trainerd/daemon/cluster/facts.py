"""What people see of hosts: facts beside the supervisor's own state."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from trainerd.daemon.clock import Clock
from trainerd.daemon.journal import Stored
from trainerd.daemon.supervision.state import State
from trainerd.v1 import control_pb2, host_pb2
from trainerd.v1.protocol import SOFTWARE


@dataclass(slots=True)
class _Facts:
    """One host. `heard_at`: monotonic seconds; None: not by this daemon."""

    address: str = ""
    software: str = ""
    devices: str = ""
    problem: str = ""
    heard_at: float | None = None
    clock_offset_s: float = 0.0
    clock_error_s: float = 0.0


class HostFacts:
    """All hosts; bounded by those that have joined."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hosts: dict[str, _Facts] = {}

    def record(self, stored: Stored, state: State) -> None:  # noqa: ARG002 - an observer
        """A journal record."""
        message = stored.message
        match stored.kind:
            case "host_joined" if not stored.ignored:
                facts = self._of(message.host)
                facts.address = message.host_joined.address
                facts.software = message.host_joined.software
                facts.problem = "its launcher is not linked yet"
            case "host_lost":
                self._of(message.host).problem = message.host_lost.reason
            case "launcher_lost":
                self._of(message.host).problem = message.launcher_lost.reason
            case "launcher_attached":
                self._of(message.host).problem = ""
            case _:
                pass

    def heard(self, host: str) -> None:
        """A host said something."""
        self._of(host).heard_at = self._clock.now()

    def pulse(self, host: str, pulse: host_pb2.Pulse) -> None:
        """A host is alive."""
        facts = self._of(host)
        facts.clock_offset_s, facts.clock_error_s = pulse.clock_offset_s, pulse.clock_error_s

    def devices(self, host: str, devices: str) -> None:
        """A launcher said what devices it has."""
        self._of(host).devices = devices

    def heard_at(self, host: str) -> float | None:
        """When a host said something last; None: never to this daemon."""
        return self._of(host).heard_at

    def views(self, state: State) -> list[control_pb2.Host]:
        """All hosts, by name."""
        return [self.view(state, name) for name in sorted(state.hosts)]

    def view(self, state: State, name: str) -> control_pb2.Host:
        """One host, as the API shows it."""
        host, facts = state.hosts[name], self._of(name)
        local = name == state.local
        view = control_pb2.Host(
            name=name or socket.gethostname(),
            supervisor=local,
            joined=host.joined,
            linked=host.linked,
            draining=host.draining,
            address="" if local else facts.address,
            software=SOFTWARE if local else facts.software,
            devices=facts.devices,
            problem="" if host.linked else facts.problem or "it has not joined",
        )
        if local:
            view.clock_offset_s = 0.0
        elif facts.clock_error_s > 0:
            view.clock_offset_s = facts.clock_offset_s
            view.clock_error_s = facts.clock_error_s
        if not local and facts.heard_at is not None:
            view.heard_s = max(0.0, self._clock.now() - facts.heard_at)
        for run in state.runs.values():
            if not run.over and name in run.allotted:
                view.run = run.id
                trainer = run.members.get(name)
                view.process = trainer.process if trainer is not None else 0
        return view

    def _of(self, host: str) -> _Facts:
        facts = self._hosts.get(host)
        if facts is None:
            facts = self._hosts[host] = _Facts()
        return facts
