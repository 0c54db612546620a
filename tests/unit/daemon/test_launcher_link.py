"""The link to the launcher: it comes and goes, and no order and no exit is lost with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.launcher import FakeLauncher, serving
from trainerd.daemon.clock import SystemClock
from trainerd.daemon.effects import unanswered
from trainerd.daemon.journal import Journal
from trainerd.daemon.launcher_link import LauncherLink, LauncherStart, launcher_command
from trainerd.daemon.launcher_watch import LauncherWatch
from trainerd.daemon.runtime import Runtime
from trainerd.v1 import control_pb2, run_pb2
from unit.daemon.house import house, play, short_directory


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_exits_are_journalled_once_and_acknowledged_at_the_next_link(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            await at.training(run)
            launcher.exit(run, 1, exit_code=3)
            await launcher.until(lambda fake: (run, 2) in fake.live)
            await at.training(run, 2)
            exits = (await at.kinds(run)).count("trainer_exited")
        # The launcher has no acknowledgement yet, and tells the next daemon everything again.
        async with house(root, launcher) as at:
            trainer = await at.training(run, 2)
            await trainer.until_acknowledged()
            assert (await at.kinds(run)).count("trainer_exited") == exits == 1
            assert "event_ignored" not in await at.kinds(run)
            assert (await at.get(run)).incarnation == 2

    play(scene)


def test_a_refused_start_is_a_fault_and_a_permanent_one_the_end(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher(refuse_start=grpc.StatusCode.RESOURCE_EXHAUSTED)
        async with house(root, launcher) as at:
            run = await at.submit()
            view = await at.until(run, lambda now: now.restarts == 1)
            assert "could not be started: as the test wants it" in view.last_fault.message
            launcher.refuse_start = grpc.StatusCode.INVALID_ARGUMENT
            view = await at.until(run, lambda now: now.state == run_pb2.RUN_STATE_FAILED)
            assert "could not be started" in view.reason

    play(scene)


def test_devices_that_another_process_holds_are_waited_for_and_are_no_fault(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher(busy="held by process 7")
        async with house(root, launcher) as at:
            run = await at.submit()
            view = await at.until(run, lambda now: now.state == run_pb2.RUN_STATE_RECOVERING)

            assert "waits for the devices" in view.reason
            assert "held by process 7" in view.reason
            assert view.restarts == 0
            assert not view.HasField("last_fault")
            assert "decision_made" not in await at.kinds(run)

    play(scene)


def test_a_trainer_from_the_standby_is_told_as_such(root: Path) -> None:
    async def scene() -> None:
        async with house(root, FakeLauncher(warm=True)) as at:
            run = await at.submit()
            await at.training(run)
            spawned = [each for each in await at.events(run) if each.HasField("trainer_spawned")]
            assert [each.trainer_spawned.warm for each in spawned] == [True]

    play(scene)


def test_a_launcher_removes_what_was_deleted_while_it_was_away_and_is_asked_once(
    root: Path,
) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.finish("completed", 100)
            await trainer.until_acknowledged()
            launcher.exit(run, 1)
            await at.until(run, lambda now: now.state == run_pb2.RUN_STATE_COMPLETED)
            launcher.refuse_removals = True
            await at.control.DeleteRun(control_pb2.DeleteRunRequest(run=run))
        assert launcher.removed == []
        launcher.refuse_removals = False
        async with house(root, launcher) as at:
            await launcher.until(lambda fake: fake.removed == [run])
            while "files_removed" not in await at.kinds():
                await asyncio.sleep(0.005)
        async with house(root, launcher) as at:
            # Behind whatever the greeting may have led to.
            await at.training(await at.submit("b"))
            assert launcher.removed == [run]
            assert launcher.memory_freed == []

    play(scene)


def test_a_run_that_fails_with_its_process_gone_leaves_nothing_in_memory(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            trainer = await at.training(run)
            launcher.refuse_start = grpc.StatusCode.INVALID_ARGUMENT
            launcher.exit(run, trainer.incarnation, exit_code=3)
            await at.until(run, lambda now: now.state == run_pb2.RUN_STATE_FAILED)
            await launcher.until(lambda fake: fake.memory_freed == [run])
            assert launcher.removed == []

    play(scene)


def test_a_start_that_the_transport_lost_is_asked_for_again(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher(answers_start=False)
        async with house(root, launcher) as at:
            run = await at.submit()
            await launcher.until(lambda fake: fake.started)
            # Bare UNAVAILABLE is what a broken transport looks like.
            launcher.answers_start = True
            launcher.hang_up()
            await launcher.until(lambda fake: (run, 1) in fake.live)
            await at.training(run)

            assert [each.incarnation for each in launcher.started] == [1, 1]
            assert (await at.get(run)).restarts == 0

    play(scene)


def test_without_a_launcher_calls_say_so_and_a_checked_submit_goes_through(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            await at.launcher.stop_serving()
            await at.until_unlinked()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await at.control.ReadRunLog(control_pb2.ReadRunLogRequest(run=run))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "not linked" in str(caught.value.details())

    play(scene)


def test_only_what_the_launcher_itself_refused_is_answered() -> None:
    def error(code: grpc.StatusCode, *metadata: tuple[str, bytes]) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(
            code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details="x"
        )

    from google.protobuf import any_pb2
    from google.rpc import error_details_pb2, status_pb2

    def because(reason: str) -> tuple[str, bytes]:
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.ErrorInfo(reason=reason))
        return "grpc-status-details-bin", status_pb2.Status(details=[packed]).SerializeToString()

    code = grpc.StatusCode
    assert unanswered(error(code.DEADLINE_EXCEEDED))
    assert unanswered(error(code.CANCELLED))
    assert unanswered(error(code.UNAVAILABLE))
    assert unanswered(error(code.UNAVAILABLE, because("LAUNCHER_DRAINING")))
    assert not unanswered(error(code.UNAVAILABLE, because("NOT_STARTED")))
    assert not unanswered(error(code.FAILED_PRECONDITION))


STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("started", flush=True)
time.sleep(60)
"""


def test_a_launcher_that_was_told_to_end_is_not_started_again(root: Path) -> None:
    async def scene() -> None:
        journal = Journal(root / "journal.sqlite")
        runtime = Runtime(journal, SystemClock())
        output = root / "launcher" / "launcher.log"
        start = LauncherStart(command=(sys.executable, "-c", STUBBORN), log=output)
        link = LauncherLink(root / "l.sock", start)
        task = asyncio.create_task(link.run(LauncherWatch(runtime, "")))
        while not output.exists() or "started" not in output.read_text():
            await asyncio.sleep(0.01)
        assert await link.end_launcher(10.0)
        task.cancel()
        await asyncio.wait([task])
        await link.run(LauncherWatch(runtime, ""))
        journal.close()

        assert output.read_text().count("started") == 1

    play(scene)


def test_a_launcher_that_answers_already_is_not_started(root: Path) -> None:
    async def scene() -> None:
        journal = Journal(root / "journal.sqlite")
        runtime = Runtime(journal, SystemClock())
        output = root / "launcher.log"
        start = LauncherStart(command=(sys.executable, "-c", STUBBORN), log=output)

        class Nothing:
            def execute(self, command: object) -> None:
                raise AssertionError(command)

        async with serving(FakeLauncher(), root / "l.sock"):
            link = LauncherLink(root / "l.sock", start)
            tasks = [
                asyncio.create_task(link.run(LauncherWatch(runtime, ""))),
                asyncio.create_task(runtime.run(Nothing())),
            ]
            while not link.calls.linked:
                await asyncio.sleep(0.01)
            tasks[0].cancel()
            await asyncio.wait(tasks[:1])
            await runtime.close()
            await asyncio.wait(tasks)
        journal.close()

        assert not output.exists()

    play(scene)


def test_a_launcher_is_started_by_name() -> None:
    assert launcher_command(("--socket", "s"), "py") == (
        "py",
        "-m",
        "trainerd.actors.launcher",
        "--socket",
        "s",
    )
    assert launcher_command(())[0] == sys.executable
