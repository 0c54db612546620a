"""LauncherService's smaller duties: greeting, logs, removal, health."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fakes.launcher_process import launcher, wait_until
from fakes.trainer_scripts import FAILS, SLEEPER
from trainerd.actors.launcher.snapshot_places import SnapshotPlaces
from trainerd.v1 import launcher_pb2, link_pb2, protocol


def test_the_greeting_states_the_trainers_that_live():
    with launcher(SLEEPER) as host:
        pid = host.start_trainer(incarnation=3)
        hello = host.watch().hello
        assert hello.protocol == protocol.protocol()
        assert hello.pid == host.pid
        assert hello.devices
        (live,) = hello.trainers
        assert (live.run, live.incarnation, live.pid) == ("r-1", 3, pid)


def test_a_strange_protocol_is_refused():
    with launcher(SLEEPER) as host:
        stranger = link_pb2.ProtocolVersion(major=99, minor=1, software="9.9")
        call = host.stub.WatchTrainers(launcher_pb2.WatchTrainersRequest(protocol=stranger))
        with pytest.raises(grpc.RpcError) as caught:
            next(iter(call))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "the daemon speaks protocol 99.1 (trainerd 9.9)" in caught.value.details()


def test_two_watchers_hear_the_same_exits():
    with launcher(FAILS) as host:
        watches = [host.watch(), host.watch()]
        for watch in watches:
            assert watch.hello
        host.start_trainer()
        assert [w.wait_exits(1)[0].sequence for w in watches] == [1, 1]


def test_a_log_is_read_in_parts():
    with launcher(FAILS) as host:
        watch = host.watch()
        for incarnation in (9, 10):
            host.start_trainer(incarnation=incarnation)
            wait_until(lambda n=incarnation: len(watch.exits) == n - 8, "its exit")
        first = host.stub.ReadLog(launcher_pb2.ReadLogRequest(run="r-1", max_bytes=7), timeout=20)
        assert (first.data, first.next_offset, first.incarnation) == (b"line 0\n", 7, 10)
        second = host.stub.ReadLog(
            launcher_pb2.ReadLogRequest(run="r-1", incarnation=9, offset=-8), timeout=20
        )
        assert (second.data, second.incarnation) == (b"line 99\n", 9)


def test_a_log_that_is_not_there_is_not_found():
    with launcher(FAILS) as host:
        with pytest.raises(grpc.RpcError) as caught:
            host.stub.ReadLog(launcher_pb2.ReadLogRequest(run="none"), timeout=20)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_run_is_removed_only_when_no_trainer_of_it_lives():
    with launcher(SLEEPER) as host:
        watch = host.watch()
        host.start_trainer()
        host.wait_log("ready")
        request = launcher_pb2.RemoveRunRequest(run="r-1")
        with pytest.raises(grpc.RpcError) as caught:
            host.stub.RemoveRun(request, timeout=20)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert host.log()
        place = SnapshotPlaces(host.state).of("r-1")
        assert place is not None
        (place / "snapshot").mkdir(parents=True)
        in_memory = launcher_pb2.RemoveRunRequest(run="r-1", memory_only=True)
        with pytest.raises(grpc.RpcError):
            host.stub.RemoveRun(in_memory, timeout=20)
        assert place.exists()
        host.kill_trainer()
        watch.wait_exits(1)
        assert place.exists(), "one that was killed may go on from there"
        host.stub.RemoveRun(in_memory, timeout=20)
        assert not place.exists()
        assert (host.state / "runs" / "r-1").exists()
        host.stub.RemoveRun(request, timeout=20)
        assert not (host.state / "runs" / "r-1").exists()
        host.stub.RemoveRun(request, timeout=20)


def test_a_standby_is_prepared_for_what_may_run_here_while_no_other_run_trains():
    with launcher(SLEEPER) as host:
        host.start_trainer()

        def asked(run: str, python: str = "") -> str:
            spec = host.assignment().spec
            spec.trainer.python = python
            request = launcher_pb2.PrepareStandbyRequest(run=run, spec=spec)
            return host.stub.PrepareStandby(request, timeout=20).problem

        # These trainers are scripts, which no standby forks.
        assert asked("r-1") == "standbys are switched off here"
        with pytest.raises(grpc.RpcError, match="held by incarnation 1 of r-1"):
            asked("r-2")
        with pytest.raises(grpc.RpcError, match="/nowhere/python"):
            asked("r-1", "/nowhere/python")


def test_an_impossible_grace_is_refused():
    with launcher(SLEEPER) as host:
        for grace_s in (-1.0, float("nan"), float("inf")):
            with pytest.raises(grpc.RpcError) as caught:
                host.kill_trainer(grace_s=grace_s)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_health_is_served():
    with launcher(SLEEPER) as host, grpc.insecure_channel(f"unix:{host.socket}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="trainerd.v1.LauncherService"), timeout=20
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
