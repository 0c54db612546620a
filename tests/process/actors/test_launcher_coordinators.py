"""Coordination services of gangs: started, answering, replaced and ended by the launcher."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import grpc
import pytest

from fakes.launcher_process import LauncherProcess, launcher, process_is_alive, wait_until
from fakes.trainer_scripts import SLEEPER
from trainerd.v1 import launcher_pb2

DEADLINE_S = 60.0


def start(
    host: LauncherProcess, incarnation: int, processes: int = 2, run: str = "r-1"
) -> launcher_pb2.StartCoordinatorResponse:
    request = launcher_pb2.StartCoordinatorRequest(
        run=run, incarnation=incarnation, process_count=processes
    )
    return host.stub.StartCoordinator(request, timeout=DEADLINE_S)


def stop(host: LauncherProcess, incarnation: int) -> None:
    request = launcher_pb2.StopCoordinatorRequest(run="r-1", incarnation=incarnation)
    host.stub.StopCoordinator(request, timeout=DEADLINE_S)


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def gone(pid: int) -> None:
    wait_until(lambda: not process_is_alive(pid), f"the end of {pid}")


def test_a_coordination_service_answers_and_ends_when_it_is_told_to() -> None:
    with launcher(SLEEPER) as host:
        first = start(host, 3)
        assert first.address.startswith("127.0.0.1:")
        assert answers(first.address)
        assert start(host, 3) == first
        # Another incarnation's is none of this order's business.
        stop(host, 2)
        assert process_is_alive(first.pid)
        stop(host, 3)
        assert not process_is_alive(first.pid)
        assert not answers(first.address)
        stop(host, 3)


def test_a_newer_incarnation_takes_the_place_of_an_older_one() -> None:
    with launcher(SLEEPER) as host:
        first, other = start(host, 1), start(host, 1, run="r-2")
        second = start(host, 2)
        assert not process_is_alive(first.pid)
        assert second.address != first.address
        assert process_is_alive(other.pid)
        with pytest.raises(grpc.RpcError) as caught:
            start(host, 1)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "incarnation 1 of r-1 is past" in caught.value.details()
        # One that died is started anew.
        os.kill(second.pid, signal.SIGKILL)
        gone(second.pid)
        assert answers(start(host, 2).address)


def children(host: LauncherProcess) -> set[int]:
    listed = Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text()
    return {int(pid) for pid in listed.split()}


def begun(host: LauncherProcess, serving: int) -> int:
    """The process of the next incarnation, beside the one that serves."""
    wait_until(lambda: children(host) - {serving}, "a process of the next incarnation")
    (spare,) = children(host) - {serving}
    return spare


def test_the_next_incarnation_finds_its_process_begun() -> None:
    with launcher(SLEEPER, "--standby-after-s", "0") as host:
        pid = start(host, 1).pid
        for incarnation in (2, 3):
            spare = begun(host, pid)
            came = start(host, incarnation)
            assert came.pid == spare
            assert answers(came.address)
            pid = spare
        # One that died meanwhile is not waited for.
        spare = begun(host, pid)
        os.kill(spare, signal.SIGKILL)
        gone(spare)
        assert answers(start(host, 4).address)


def test_nothing_is_begun_for_a_run_that_has_no_service() -> None:
    with launcher(SLEEPER, "--standby-after-s", "0") as host:
        begun(host, start(host, 1).pid)
        request = launcher_pb2.RemoveRunRequest(run="r-1")
        host.stub.RemoveRun(request, timeout=DEADLINE_S)
        wait_until(lambda: not children(host), "the end of both")


@pytest.mark.parametrize("end", ["sigkill", "terminate"])
def test_a_coordination_service_does_not_outlive_its_launcher(end: str) -> None:
    with launcher(SLEEPER) as host:
        pid = start(host, 1).pid
        getattr(host, end)()
        gone(pid)


def test_one_that_cannot_listen_is_refused_with_the_reason() -> None:
    with launcher(SLEEPER, "--advertise", "192.0.2.1") as host:
        with pytest.raises(grpc.RpcError) as caught:
            start(host, 1)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "192.0.2.1: [Errno 99] Cannot assign requested address" in caught.value.details()
        with pytest.raises(grpc.RpcError) as caught:
            start(host, 1, processes=0)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
