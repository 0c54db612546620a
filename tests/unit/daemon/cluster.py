"""A cluster in the test's process: the daemons of a supervisor and of hosts, real gRPC between them
over the supervisor's Unix socket, a fake launcher on each, fake trainers.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from fakes.launcher import FakeLauncher, serving
from trainerd.daemon.cluster.config import ClusterConfig
from trainerd.daemon.cluster.host_daemon import HostDaemon, joined
from trainerd.daemon.cluster.joining import OPTIONS
from trainerd.daemon.config import Config
from trainerd.v1 import control_pb2, fault_pb2, run_pb2
from unit.daemon.house import House, Trainer, configuration, house, spec

SUPERVISOR = "s"


@dataclass
class Host:
    """One host that has joined."""

    name: str
    config: Config
    launcher: FakeLauncher
    daemon: HostDaemon
    stack: contextlib.AsyncExitStack

    async def leave(self) -> None:
        """Its daemon ends; its launcher and its trainers go on."""
        await self.stack.aclose()


@dataclass
class Cluster:
    """The supervisor and its hosts."""

    root: Path
    at: House
    hosts: dict[str, Host] = field(default_factory=dict)

    async def join(self, name: str, launcher: FakeLauncher | None = None) -> Host:
        """Another host joins; its launcher serves as long as the cluster."""
        fake = launcher or FakeLauncher(instance=f"fake-{name}")
        config = host_configuration(self.root, name)
        if fake.server is None:
            await self.at.stack.enter_async_context(serving(fake, config.launcher.socket))
        stack = contextlib.AsyncExitStack()
        self.at.stack.push_async_callback(stack.aclose)
        target = f"unix:{self.at.config.daemon.control_socket}"
        daemon = await stack.enter_async_context(
            joined(
                config,
                asyncio.Event(),
                lambda: grpc.aio.insecure_channel(target, options=OPTIONS),
            )
        )
        host = self.hosts[name] = Host(name, config, fake, daemon, stack)
        await self.until(name, lambda view: daemon.joined and view.linked)
        return host

    async def submit(self, name: str = "a", *, hosts: int, least: int = 0, **train: int) -> str:
        """Submit a good run for several hosts; return its id."""
        wanted = spec(name, **train)
        wanted.hosts.count, wanted.hosts.min = hosts, least or hosts
        wanted.checkpoint.directory = "/shared"
        request = control_pb2.SubmitRunRequest(spec=wanted, skip_program_check=True)
        return (await self.at.control.SubmitRun(request)).run.id

    async def view(self, name: str) -> control_pb2.Host:
        answer = await self.at.control.ListHosts(control_pb2.ListHostsRequest())
        return next((each for each in answer.hosts if each.name == name), control_pb2.Host())

    async def until(
        self, name: str, true: Callable[[control_pb2.Host], object]
    ) -> control_pb2.Host:
        """A host once it is so."""
        async with asyncio.timeout(10.0):
            while not true(view := await self.view(name)):
                await asyncio.sleep(0.01)
        return view

    async def trainer(self, host: str, run: str, incarnation: int = 1, **hello: Any) -> Trainer:
        """The trainer of this incarnation on a host, attached, once its launcher was asked."""
        at = self.at if host == SUPERVISOR else self.hosts[host]
        await at.launcher.until(lambda fake: (run, incarnation) in fake.live)
        token = at.launcher.assignment(run, incarnation).token
        trainer = Trainer(at.config.daemon.attach_socket, run, incarnation)
        self.at.stack.push_async_callback(trainer.close)
        await trainer.attach(**{"token": token, **hello})
        return trainer

    async def gang(self, run: str, *hosts: str, incarnation: int = 1) -> list[Trainer]:
        """The trainers of this incarnation, all attached, and they train."""
        trainers = [
            await self.trainer(host, run, incarnation, phase=fault_pb2.PHASE_INIT) for host in hosts
        ]
        for trainer in trainers:
            await trainer.enter(fault_pb2.PHASE_STEP, 1)
        await self.at.until(run, lambda now: now.state == run_pb2.RUN_STATE_RUNNING)
        return trainers


def host_configuration(root: Path, name: str) -> Config:
    """The configuration of a host beside the supervisor's files."""
    config = configuration(root / name)
    (root / name).mkdir(exist_ok=True)
    return dataclasses.replace(
        config, cluster=ClusterConfig(supervisor=f"{SUPERVISOR}:1", name=name)
    )


@contextlib.asynccontextmanager
async def cluster(
    root: Path, *names: str, launcher: FakeLauncher | None = None, **sections: Any
) -> AsyncIterator[Cluster]:
    """A supervisor on this directory, and hosts of these names that have joined it."""
    supervised = ClusterConfig(supervisor=f"{SUPERVISOR}:1", name=SUPERVISOR)
    async with house(root, launcher, cluster=supervised, **sections) as at:
        mine = Cluster(root, at)
        for name in names:
            await mine.join(name)
        yield mine
