"""Hosts join over TCP with mutual TLS, under the name that their certificate says."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.certificates import Authority, Pair, api
from fakes.launcher import FakeLauncher, serving
from trainerd.daemon.cluster.config import ClusterConfig
from trainerd.daemon.cluster.host_daemon import HostDaemon, joined
from unit.daemon.cluster import SUPERVISOR, Cluster, cluster, host_configuration
from unit.daemon.house import play, short_directory


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


async def host(
    at: Cluster, name: str, authority: Authority, pair: Pair, *, supervisor: str = "localhost"
) -> HostDaemon:
    """A daemon with this certificate that tries to join, for as long as the cluster lives."""
    config = host_configuration(at.root, name)
    files = at.root / name
    (files / "ca.crt").write_bytes(authority.cert)
    pair.write(files, "host")
    port = at.at.api_address.rpartition(":")[2]
    section = ClusterConfig(
        supervisor=f"{supervisor}:{port}",
        name=name,
        ca=files / "ca.crt",
        cert=files / "host.crt",
        key=files / "host.key",
    )
    config = dataclasses.replace(config, cluster=section)
    await at.at.stack.enter_async_context(serving(FakeLauncher(), config.launcher.socket))
    return await at.at.stack.enter_async_context(joined(config, asyncio.Event()))


async def until_refused(daemon: HostDaemon) -> str:
    while not daemon.problem or daemon.problem == "not reached yet":
        await asyncio.sleep(0.01)
    assert not daemon.joined
    return daemon.problem


def test_a_host_joins_under_the_name_of_its_certificate(root: Path) -> None:
    authority = Authority()

    async def scene() -> None:
        async with cluster(root, api=api(root, authority)) as at:
            pair = authority.pair("spiffe://trainerd/host/b")
            daemon = await host(at, "b", authority, pair)
            found = await at.until("b", lambda view: view.linked)
            assert daemon.joined
            assert found.address.startswith(("ipv4:", "ipv6:"))

            told = await until_refused(await host(at, "c", authority, pair))
            assert told == "the certificate is that of host b, it cannot join as c"
            assert (await at.view("b")).joined

    play(scene)


@pytest.mark.parametrize("identity", ["spiffe://trainerd/operator/b", "spiffe://trainerd/viewer"])
def test_who_is_no_host_may_not_join(root: Path, identity: str) -> None:
    authority = Authority()

    async def scene() -> None:
        async with cluster(root, api=api(root, authority)) as at:
            told = await until_refused(await host(at, "b", authority, authority.pair(identity)))
            assert "host" in told
            assert not (await at.view("b")).name

    play(scene)


def test_a_certificate_of_another_authority_opens_nothing(root: Path) -> None:
    authority, other = Authority(), Authority("another")

    async def scene() -> None:
        async with cluster(root, api=api(root, authority)) as at:
            pair = other.pair("spiffe://trainerd/host/b")
            told = await until_refused(await host(at, "b", authority, pair))
            assert "failed to connect" in told
            assert [each.name for each in [await at.view("b"), await at.view(SUPERVISOR)]] == [
                "",
                SUPERVISOR,
            ]

    play(scene)


def test_a_supervisor_that_is_not_called_what_its_certificate_says_is_told_of(root: Path) -> None:
    authority = Authority()
    listens = dataclasses.replace(api(root, authority), listen="127.0.0.2:0")

    async def scene() -> None:
        async with cluster(root, api=listens) as at:
            pair = authority.pair("spiffe://trainerd/host/b")
            daemon = await host(at, "b", authority, pair, supervisor="127.0.0.2")
            assert "Hostname Verification" in await until_refused(daemon)

    play(scene)


def test_certificates_that_are_not_there_are_a_problem_that_is_told(root: Path) -> None:
    authority = Authority()

    async def scene() -> None:
        async with cluster(root, api=api(root, authority)) as at:
            daemon = await host(at, "b", authority, authority.pair("spiffe://trainerd/host/b"))
            await at.until("b", lambda view: view.linked)
            (at.root / "b" / "host.key").unlink()
            await at.at.restart()
            while "host.key" not in daemon.problem:
                await asyncio.sleep(0.01)
            authority.pair("spiffe://trainerd/host/b").write(at.root / "b", "host")
            # The supervisor's port is another one now, so that it is only looked for.
            while "host.key" in daemon.problem:
                await asyncio.sleep(0.01)

    play(scene)
