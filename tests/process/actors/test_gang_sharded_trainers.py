"""Trainers of two hosts that hold a part of the state each; the supervisor is played."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.daemon import FakeDaemon, fake_daemon
from fakes.launcher_process import LauncherProcess, launcher, wait_until
from trainerd.v1 import event_pb2, launcher_pb2, run_pb2

pytestmark = pytest.mark.e2e

FAKES = Path(__file__).resolve().parents[2] / "fakes"
START_S = 240.0
WIDTH = 8192
"""Parameters enough to be cut over two devices."""

Host = tuple[LauncherProcess, FakeDaemon]


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with contextlib.ExitStack() as stack:
        yield [
            (stack.enter_context(launcher("")), stack.enter_context(fake_daemon()))
            for _ in range(2)
        ]


@pytest.fixture
def checkpoints() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(dir="/tmp", prefix="tg-"))
    yield place
    shutil.rmtree(place)


def begin(hosts: list[Host], incarnation: int, checkpoints: Path, *, every_steps: int) -> list[int]:
    """Start an incarnation on these hosts, in this order; the processes' numbers."""
    meeting = None
    if len(hosts) > 1:
        request = launcher_pb2.StartCoordinatorRequest(
            run="r-1", incarnation=incarnation, process_count=len(hosts)
        )
        meeting = hosts[0][0].stub.StartCoordinator(request, timeout=START_S)
    pids = []
    for number, (host, daemon) in enumerate(hosts):
        told = host.assignment("r-1", incarnation)
        told.attach_address, told.token = daemon.address, daemon.token
        told.spec.entry = "toy_program:build"
        told.spec.args["width"].int_value = WIDTH
        told.spec.args["rate"].double_value = 1e-5
        told.spec.trainer.path.append(str(FAKES))
        told.spec.train.steps, told.spec.train.global_batch = 1_000_000, 8
        told.spec.train.microbatch, told.spec.train.state = 2, run_pb2.STATE_LAYOUT_SHARDED
        told.spec.checkpoint.directory = str(checkpoints)
        told.spec.checkpoint.every_steps = every_steps
        if meeting is not None:
            told.gang.coordinator_address = meeting.address
            told.gang.process_id, told.gang.process_count = number, len(hosts)
            told.gang.collective_timeout_s, told.gang.barrier_timeout_s = 60.0, START_S
        request = launcher_pb2.StartTrainerRequest(assignment=told)
        pids.append(host.stub.StartTrainer(request, timeout=START_S).pid)
    return pids


def wait_event(host: Host, kind: str, incarnation: int) -> event_pb2.Event:
    launched, daemon = host

    def found() -> list[event_pb2.Event]:
        return [
            message.event
            for message in list(daemon.journal)
            if message.envelope.incarnation == incarnation
            and message.event.WhichOneof("payload") == kind
        ]

    wait_until(found, f"{kind} of {incarnation}: {launched.log('r-1', incarnation)}", START_S)
    return found()[0]


def wait_snapshot(host: Host) -> None:
    launched, daemon = host
    wait_until(
        lambda: any(report.snapshot_step > 0 for report in list(daemon.step_reports)),
        f"a snapshot: {launched.log('r-1', 1)}",
        START_S,
    )


def kill(hosts: list[Host], pids: list[int], incarnation: int) -> None:
    """The last one dies, and the supervisor ends the others."""
    watches = [host.watch() for host, _ in hosts]
    os.kill(pids[-1], signal.SIGKILL)
    watches[-1].wait_exits(incarnation)
    for (host, _), watch in list(zip(hosts, watches, strict=True))[:-1]:
        host.kill_trainer("r-1", incarnation)
        watch.wait_exits(incarnation)


def test_a_restart_uses_the_snapshots_of_all_and_a_lost_host_means_a_checkpoint(
    hosts: list[Host], checkpoints: Path
) -> None:
    pids = begin(hosts, 1, checkpoints, every_steps=1_000_000)
    for host in hosts:
        wait_snapshot(host)
    kill(hosts, pids, 1)
    # There is no checkpoint: what it goes on from is in both hosts' memory.
    pids = begin(hosts, 2, checkpoints, every_steps=25)
    restored = [wait_event(host, "state_restored", 2).state_restored for host in hosts]
    assert restored[0].step == restored[1].step > 0
    assert all(each.source.endswith(".snapshot") for each in restored)
    saved = wait_event(hosts[0], "checkpoint_saved", 2).checkpoint_saved
    kill(hosts, pids, 2)
    # The second host is gone, and with it its part: what the first one has in memory is no state.
    begin(hosts[:1], 3, checkpoints, every_steps=25)
    alone = wait_event(hosts[0], "state_restored", 3).state_restored
    assert alone.step >= saved.step
    assert Path(alone.source).is_relative_to(checkpoints)
