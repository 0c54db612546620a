"""Hosts join their supervisor, are listed, are refused, and are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from trainerd.daemon.cluster import supervising
from trainerd.daemon.refusals import reason_of
from trainerd.v1 import control_pb2, control_pb2_grpc, host_pb2, host_pb2_grpc, link_pb2
from trainerd.v1.protocol import CHANNEL_OPTIONS, protocol
from unit.daemon.cluster import SUPERVISOR, Cluster, cluster
from unit.daemon.house import play, short_directory


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


class Bare:
    """A host's end of the link, said by hand."""

    def __init__(self, at: Cluster) -> None:
        target = f"unix:{at.at.config.daemon.control_socket}"
        self.channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        at.at.stack.push_async_callback(self.channel.close)
        stub: Any = host_pb2_grpc.HostServiceStub(self.channel)
        self.stream = stub.Join()

    async def greet(self, host: str, **hello: Any) -> host_pb2.JoinResponse:
        greeting = host_pb2.HostHello(**{"protocol": protocol(), "host": host, **hello})
        return await self.send(hello=greeting)

    async def send(self, **payload: Any) -> host_pb2.JoinResponse:
        await self.stream.write(host_pb2.JoinRequest(**payload))
        answer: host_pb2.JoinResponse = await self.stream.read()
        return answer

    async def refused(self, host: str, **hello: Any) -> tuple[grpc.StatusCode, str, str]:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.greet(host, **hello)
        return error.value.code(), reason_of(error.value), error.value.details() or ""


def test_a_host_that_joins_is_listed_with_what_is_known_of_it(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "b") as at:
            found = await at.until("b", lambda view: view.HasField("clock_offset_s"))

            assert found.joined
            assert found.linked
            assert found.software == protocol().software
            assert found.devices == "cpu, 1"
            assert found.problem == ""
            assert abs(found.clock_offset_s) <= found.clock_error_s + 0.001
            own = await at.view(SUPERVISOR)
            assert own.supervisor
            assert own.linked
            assert own.clock_offset_s == 0

    play(scene)


def test_a_daemon_that_is_alone_lists_its_own_host(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root) as at:
            answer = await at.at.control.ListHosts(control_pb2.ListHostsRequest())
            assert [host.name for host in answer.hosts] == [SUPERVISOR]

    play(scene)


def test_the_newest_link_of_a_host_counts_and_the_older_one_is_told(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root) as at:
            older, newer = Bare(at), Bare(at)
            await older.greet("b")
            await newer.greet("b")

            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await older.stream.read()
            assert reason_of(ended.value) == "REPLACED"
            assert (await at.view("b")).joined
            kinds = await at.at.kinds()
            assert kinds.count("host_joined") == 2
            assert "host_lost" not in kinds

    play(scene)


def test_another_daemon_of_the_same_name_waits_for_the_one_that_is_linked(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root) as at:
            linked = Bare(at)
            await linked.greet("b", instance="1")
            code, reason, told = await Bare(at).refused("b", instance="2")
            assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_LINKED")
            assert "another daemon is linked as host b, from" in told
            assert (await at.view("b")).joined

            linked.stream.cancel()
            await at.until("b", lambda view: not view.joined)
            await Bare(at).greet("b", instance="2")
            assert (await at.view("b")).joined

    play(scene)


def test_who_cannot_be_a_host_is_refused_and_told_why(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root) as at:
            other = protocol()
            other.major += 1

            code, reason, _ = await Bare(at).refused("no/name")
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME")
            _, reason, told = await Bare(at).refused(SUPERVISOR)
            assert reason == "NAME_TAKEN"
            assert "cluster.name" in told
            _, reason, told = await Bare(at).refused("b", protocol=other)
            assert reason == "PROTOCOL_MISMATCH"
            assert "install the same trainerd release" in told
            with pytest.raises(grpc.aio.AioRpcError):
                await Bare(at).send(reports=host_pb2.HostReports())
            assert [host.name for host in await listed(at)] == [SUPERVISOR]

    play(scene)


async def listed(at: Cluster) -> list[control_pb2.Host]:
    return list((await at.at.control.ListHosts(control_pb2.ListHostsRequest())).hosts)


def test_a_host_that_says_nothing_is_lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "SILENT_S", 0.3)
    monkeypatch.setattr(supervising, "LOOK_S", 0.02)

    async def scene() -> None:
        async with cluster(root) as at:
            await Bare(at).greet("b")
            lost = await at.until("b", lambda view: not view.joined)

            assert "said nothing" in lost.problem
            assert "host_lost" in await at.at.kinds()

    play(scene)


def test_a_daemon_that_was_away_itself_hears_before_it_judges(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "SILENT_S", 0.3)
    monkeypatch.setattr(supervising, "STALL_S", 0.0)

    async def scene() -> None:
        async with cluster(root) as at:
            await Bare(at).greet("b")
            # Every look comes late: for this daemon no time has passed that it was there in.
            await asyncio.sleep(0.8)
            assert (await at.view("b")).joined

    play(scene)


def test_a_host_answers_who_it_is_and_who_supervises(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "b") as at:
            host = at.hosts["b"]
            channel = grpc.aio.insecure_channel(
                f"unix:{host.config.daemon.control_socket}", options=CHANNEL_OPTIONS
            )
            async with channel:
                control: Any = control_pb2_grpc.ControlServiceStub(channel)
                answer = await control.GetDaemon(control_pb2.GetDaemonRequest())
                assert answer.supervisor == host.config.cluster.supervisor
                assert answer.supervisor_problem == ""
                assert answer.launcher_pid == host.launcher.pid
                stranger = link_pb2.ProtocolVersion(major=99, software="9.9")
                with pytest.raises(grpc.aio.AioRpcError) as foreign:
                    await control.GetDaemon(control_pb2.GetDaemonRequest(protocol=stranger))
                assert reason_of(foreign.value) == "PROTOCOL_MISMATCH"
                for call in (
                    control.ListRuns(control_pb2.ListRunsRequest()),
                    control.WatchRun(control_pb2.WatchRunRequest(run="r")).read(),
                ):
                    with pytest.raises(grpc.aio.AioRpcError) as elsewhere:
                        await call
                    assert reason_of(elsewhere.value) == "ASK_THE_SUPERVISOR"
                    assert host.config.cluster.supervisor in (elsewhere.value.details() or "")

    play(scene)


def test_a_launcher_that_comes_and_goes_is_told_of(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "b") as at:
            at.hosts["b"].launcher.hang_up()
            await at.at.until_event("launcher_lost", host="b")
            assert (await at.until("b", lambda view: view.linked)).joined

    play(scene)


def test_a_host_joins_again_when_the_supervisor_is_back(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "b") as at:
            host = at.hosts["b"]
            await at.at.restart()
            await at.until("b", lambda view: view.linked)
            assert host.daemon.joined

    play(scene)
