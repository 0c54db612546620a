"""Trainers of two hosts as one gang: two launchers with real trainers, the supervisor played."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.daemon import FakeDaemon, fake_daemon
from fakes.launcher_process import LauncherProcess, launcher, wait_until
from trainerd.actors.fence import FENCE
from trainerd.v1 import event_pb2, launcher_pb2

pytestmark = pytest.mark.e2e

FAKES = Path(__file__).resolve().parents[2] / "fakes"
START_S = 240.0

Host = tuple[LauncherProcess, FakeDaemon]


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with contextlib.ExitStack() as stack:
        yield [
            (
                stack.enter_context(launcher("", "--standby-after-s", "0")),
                stack.enter_context(fake_daemon()),
            )
            for _ in range(2)
        ]


def begin(
    hosts: list[Host], incarnation: int, checkpoints: Path, *, first: int = 0
) -> list[launcher_pb2.StartTrainerResponse]:
    """Start an incarnation whose member 0 is on host `first`."""
    meeting = hosts[first][0].stub.StartCoordinator(
        launcher_pb2.StartCoordinatorRequest(
            run="r-1", incarnation=incarnation, process_count=len(hosts)
        ),
        timeout=START_S,
    )
    started = []
    for number in range(len(hosts)):
        host, daemon = hosts[(first + number) % len(hosts)]
        told = host.assignment("r-1", incarnation)
        told.attach_address, told.token = daemon.address, daemon.token
        told.spec.entry = "toy_program:build"
        told.spec.trainer.path.append(str(FAKES))
        told.spec.train.steps, told.spec.train.global_batch = 1_000_000, 8
        told.spec.train.microbatch, told.spec.train.exact_across_hosts = 2, True
        told.spec.checkpoint.directory = str(checkpoints)
        told.spec.checkpoint.every_steps = 1_000_000
        told.gang.coordinator_address = meeting.address
        told.gang.process_id, told.gang.process_count = number, len(hosts)
        told.gang.collective_timeout_s, told.gang.barrier_timeout_s = 60.0, START_S
        request = launcher_pb2.StartTrainerRequest(assignment=told)
        started.append(host.stub.StartTrainer(request, timeout=START_S))
    return started


def events(daemon: FakeDaemon, kind: str, incarnation: int) -> list[event_pb2.Event]:
    return [
        message.event
        for message in list(daemon.journal)
        if message.envelope.incarnation == incarnation
        and message.event.WhichOneof("payload") == kind
    ]


def wait_steps(hosts: list[Host], beyond: int) -> None:
    for host, daemon in hosts:
        wait_until(
            lambda daemon=daemon: any(each.step > beyond for each in list(daemon.step_reports)),
            f"a step beyond {beyond}: {host.log('r-1', 1)} {host.log('r-1', 2)}",
            START_S,
        )


def test_a_gang_is_formed_anew_after_a_member_died_and_goes_on_where_it_was(
    hosts: list[Host],
) -> None:
    checkpoints = Path(tempfile.mkdtemp(dir="/tmp", prefix="tg-"))
    try:
        (first, first_daemon), (_, second_daemon) = hosts
        watches = [host.watch() for host, _ in hosts]
        before = begin(hosts, 1, checkpoints)
        wait_steps(hosts, 0)
        for _, daemon in hosts:
            wait_until(
                lambda daemon=daemon: any(r.snapshot_step > 0 for r in list(daemon.step_reports)),
                "a snapshot",
                START_S,
            )
        for host, _ in hosts:
            wait_until(
                lambda host=host: "standby_ready" in host.errors.read_text(),
                f"a standby: {host.errors.read_text()}",
                START_S,
            )
        # One dies; the supervisor ends the other, and begins anew with other numbers.
        os.kill(before[1].pid, signal.SIGKILL)
        watches[1].wait_exits(1)
        killed_s = time.monotonic()
        first.kill_trainer("r-1", 1)
        watches[0].wait_exits(1)
        reached = max(r.step for _, daemon in hosts for r in daemon.step_reports)
        after = begin(hosts, 2, checkpoints, first=1)
        assert [each.warm for each in after] == [True, True]
        wait_steps(hosts, reached)
        print(f"killed → new step: {time.monotonic() - killed_s:.2f} s")
        restored = [events(daemon, "state_restored", 2)[0].state_restored for _, daemon in hosts]
        assert restored[0].step == restored[1].step > 0
        fence = json.loads((checkpoints / "r-1" / FENCE).read_text())
        assert (fence["run"], fence["incarnation"]) == ("r-1", 2)
        with pytest.raises(grpc.RpcError) as caught:
            begin(hosts, 1, checkpoints)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        # A host that is told to drain: both members save at one boundary, and end.
        os.kill(after[0].pid, signal.SIGTERM)
        for watch in watches:
            assert watch.wait_exits(2)[1].exited.exit_code == 0
        ends = [events(daemon, "trainer_finished", 2)[0].trainer_finished for _, daemon in hosts]
        assert [end.reason for end in ends] == [event_pb2.FINISH_REASON_PREEMPTED] * 2
        assert ends[0].result.state_digest == ends[1].result.state_digest != ""
        assert all(end.durable for end in ends)
        assert ends[0].result.durable_step == ends[0].result.step
        # The first member alone has saved and said so.
        assert events(second_daemon, "checkpoint_saved", 2)
        assert not events(first_daemon, "checkpoint_saved", 2)
    finally:
        shutil.rmtree(checkpoints)
