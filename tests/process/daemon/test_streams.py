"""Streams across a daemon that is killed, and two hundred watchers of a real one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fakes.launcher_process import wait_until
from process.daemon.daemon_process import DEADLINE_S, configured, daemon_process
from trainerd.clients import Client, Patience, Refused, follow_events
from trainerd.clients.watching import Watching
from trainerd.daemon.watchers import QUEUE_LIMIT
from trainerd.v1 import control_pb2, control_pb2_grpc, run_pb2
from trainerd.v1.protocol import CHANNEL_OPTIONS
from unit.daemon.house import short_directory, spec

WATCHERS = 200
BOUND_KIB = 100 * 1024


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def pause_and_be_refused(client: Client, run: str, times: int) -> None:
    """Two records each."""
    for _ in range(times):
        with contextlib.suppress(Refused):
            client.pause_run(run, no_wait=True)


class Follower(threading.Thread):
    """Somebody who follows a run's records."""

    def __init__(self, address: str, run: str) -> None:
        super().__init__(name="follower")
        self._address, self._run = address, run
        self.sequences: list[int] = []
        self.notes: list[str] = []

    def run(self) -> None:
        patience = Patience(self.notes.append)
        with Client(self._address) as client:
            for response in follow_events(client, self._run, patience=patience):
                self.sequences.append(response.event.sequence)


class Recording:
    """A view that keeps what it is shown."""

    def __init__(self) -> None:
        self.sequences: list[int] = []
        self.dropped = 0
        self.notes: list[str] = []

    def show(self, response: control_pb2.WatchRunResponse) -> None:
        self.sequences += [event.sequence for event in response.events]
        self.dropped += response.dropped_events

    def tick(self) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def close(self) -> None: ...


def test_a_follower_and_a_watcher_survive_a_killed_daemon_without_loss_or_duplicates(
    root: Path,
) -> None:
    config = configured(root)
    address = f"unix:{root / 'c.sock'}"
    view = Recording()
    with daemon_process(config) as daemon, Client(address) as client:
        run = client.submit_run(spec(), skip_program_check=True).run.id
        follower = Follower(address, run)
        follower.start()
        pause_and_be_refused(client, run, 20)
        wait_until(lambda: len(follower.sequences) >= 40, "the records before")
        daemon.process.kill()
        daemon.process.wait(DEADLINE_S)
        # More than one try finds nobody.
        wait_until(lambda: follower.notes, "that it is missed")
    with daemon_process(config) as daemon, Client(address) as client:
        first = threading.Event()

        def interrupted(count: int, shown: Any) -> float:
            return 0.0

        # What a watcher has seen before the second daemon dies, too.
        stream = client.watch_run(run, after_sequence=follower.sequences[-1])
        seen = next(iter(stream)).sequence
        stream.cancel()
        pause_and_be_refused(client, run, 20)
        daemon.process.kill()
        daemon.process.wait(DEADLINE_S)
        first.set()
    with daemon_process(config), Client(address) as client:
        client.stop_run(run)
        how = Watching(interrupted=interrupted)
        missed = [
            event.sequence
            for response in client.watch_run(run, after_sequence=seen)
            for event in response.events
        ]
        ended = how.to_end(client, client.get_run(run).run, view)
        follower.join(DEADLINE_S)
        assert not follower.is_alive()
        told = [response.event.sequence for response in client.list_events(run)]
    assert follower.sequences == told, "each record once"
    assert missed == [sequence for sequence in told if sequence > seen]
    assert len(told) > 80
    assert ended.run.state == run_pb2.RUN_STATE_STOPPED
    assert follower.notes[:2] == [
        "the daemon does not answer; waiting for it (training goes on)",
        "the daemon answers again",
    ]


def test_a_daemon_with_two_hundred_watchers_of_which_half_never_read_stays_small(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene(address: str, run: str) -> tuple[list[list[int]], list[int]]:
        heard: list[list[int]] = [[] for _ in range(WATCHERS // 2)]

        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(
                        address, options=[*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
                    )
                )
                for _ in range(8)
            ]
            stubs: list[Any] = [control_pb2_grpc.ControlServiceStub(each) for each in channels]

            async def listen(number: int) -> None:
                request = control_pb2.WatchRunRequest(run=run)
                async for response in stubs[number % 4].WatchRun(request):
                    heard[number] += [event.sequence for event in response.events]
                    assert not response.dropped_events

            dead: list[Any] = []
            for number in range(WATCHERS // 2):
                stub = stubs[4 + number % 4]
                if number % 2:
                    call = stub.WatchRun(control_pb2.WatchRunRequest(run=run))
                else:
                    call = stub.ListEvents(control_pb2.ListEventsRequest(run=run, follow=True))
                await call.read()
                dead.append(call)
            tasks = [asyncio.create_task(listen(number)) for number in range(WATCHERS // 2)]
            everything: list[int] = []
            control = stubs[0]
            # Nobody has heard anything yet, so nobody may miss anything.
            await asyncio.sleep(0)
            newest = 0
            for _ in range(10):
                for _ in range(QUEUE_LIMIT // 8):
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await control.PauseRun(control_pb2.PauseRunRequest(run=run, no_wait=True))
                listing = control.ListEvents(
                    control_pb2.ListEventsRequest(run=run, after_sequence=newest)
                )
                everything += [each.event.sequence async for each in listing]
                newest = everything[-1]
                async with asyncio.timeout(60):
                    while any(not each or each[-1] < newest for each in heard):
                        await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for call in dead:
                call.cancel()
            return heard, everything

    config = configured(root)
    address = f"unix:{root / 'c.sock'}"
    with daemon_process(config) as daemon, Client(address) as client:
        run = client.submit_run(spec(), skip_program_check=True).run.id
        before_kib = daemon.status("VmRSS")
        heard, everything = asyncio.run(scene(address, run))
        after_kib = daemon.status("VmRSS")
        with capsys.disabled():
            print(f"[{before_kib // 1024} → {after_kib // 1024} MiB]", end=" ")
        assert daemon.terminate() == 0
    assert len(everything) > 2 * QUEUE_LIMIT
    for each in heard:
        assert each == everything[-len(each) :], "nothing is missing between first and last"
        assert len(each) >= len(everything) - QUEUE_LIMIT
    assert after_kib < BOUND_KIB
    assert "Traceback" not in daemon.errors.read_text()
