"""What clients see without changing anything: watches, events, logs, health, reflection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trainerd.v1 import control_pb2, event_pb2, fault_pb2, run_pb2, trainer_pb2
from trainerd.v1.protocol import SNAPSHOT_SUFFIX
from unit.daemon.house import house, play, short_directory
from unit.daemon.statuses import refused

CODE = grpc.StatusCode


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_a_watch_shows_every_change_until_the_end(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            seen: list[control_pb2.WatchRunResponse] = []

            async def watch() -> None:
                request = control_pb2.WatchRunRequest(run=run)
                async for response in at.control.WatchRun(request):
                    seen.append(response)

            watching = asyncio.create_task(watch())
            trainer = await at.training(run)
            await trainer.telemetry(4, loss=2.5)
            await at.until(run, lambda now: now.step == 4)
            await trainer.finish("completed", 100)
            await watching

            told = [
                event.run_state_changed.to
                for response in seen
                for event in response.events
                if event.HasField("run_state_changed")
            ]
            assert told[-2:] == [run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_COMPLETED]
            assert any(response.run.loss == 2.5 for response in seen)
            assert seen[-1].run.result.state_digest == "d"
            sequences = [event.sequence for response in seen for event in response.events]
            assert sequences == sorted(set(sequences))

    play(scene)


def test_a_slow_watcher_is_told_how_much_it_missed(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            call = at.control.WatchRun(control_pb2.WatchRunRequest(run=run))
            first: Any = await call.read()
            # Big reports fill the transport's window, then the watcher's own queue.
            detail = "x" * 60_000
            for _ in range(600):
                await trainer.fault("non_finite_step", detail=detail, delegated="ACTION_SKIP")
            await trainer.until_acknowledged()
            received, dropped = 0, 0
            while received + dropped < 1200:
                response: Any = await call.read()
                received += len(response.events)
                dropped += response.dropped_events
            call.cancel()

            assert first.run.id == run
            assert dropped > 0
            assert received + dropped == 1200

    play(scene)


def test_a_follower_gets_every_event_once_from_where_it_stopped(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            got: list[event_pb2.Event] = []

            async def follow(after: int, most: int) -> None:
                request = control_pb2.ListEventsRequest(run=run, after_sequence=after, follow=True)
                async for response in at.control.ListEvents(request):
                    got.append(response.event)
                    if len(got) == most:
                        return

            following = asyncio.create_task(follow(0, 20))
            for step in range(2, 40):
                await trainer.enter(fault_pb2.PHASE_STEP, step)
            await following
            following = asyncio.create_task(follow(got[-1].sequence, -1))
            await trainer.finish("completed", 100)
            await trainer.until_acknowledged()
            at.launcher.exit(run, 1)
            await following

            assert got == await at.events(run)
            assert [event.sequence for event in got] == sorted({event.sequence for event in got})
            assert got[0].HasField("run_submitted")
            assert got[-1].HasField("trainer_exited")

    play(scene)


def test_events_of_all_runs_come_in_order(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            first, second = await at.submit("a"), await at.submit("b")
            everything = await at.events()

            assert [event.sequence for event in everything] == list(range(1, len(everything) + 1))
            assert {event.run for event in everything} == {"", first, second}
            assert await at.events(after=everything[-2].sequence) == everything[-1:]

    play(scene)


def test_a_log_is_read_from_the_launcher(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            answer = await at.control.ReadRunLog(control_pb2.ReadRunLogRequest(run=run))
            assert answer.data == f"log of {run}".encode()
            request = control_pb2.ReadRunLogRequest(run=run, offset=99)
            await refused(at.control.ReadRunLog(request), CODE.NOT_FOUND, "LOG_UNREADABLE")

    play(scene)


def test_the_daemon_says_what_it_is_and_that_it_serves(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            answer = await at.control.GetDaemon(control_pb2.GetDaemonRequest())
            health: Any = cast(Any, health_pb2_grpc).HealthStub(at.channel)
            for service in ("", "trainerd.v1.ControlService"):
                status = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert status.status == health_pb2.HealthCheckResponse.SERVING

            assert answer.protocol.major == 1
            assert answer.launcher_pid == at.launcher.pid
            assert 0 <= answer.uptime_s < 60

    play(scene)


def test_a_generic_client_finds_and_calls_the_api_by_reflection_alone(root: Path) -> None:
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message_factory import GetMessageClass
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    def generic(address: str) -> dict[str, Any]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert "trainerd.v1.ControlService" in database.get_services()
            pool = DescriptorPool(database)
            service = pool.FindServiceByName("trainerd.v1.ControlService")
            method = service.methods_by_name["ListRuns"]
            call: Any = channel.unary_unary(
                f"/{service.full_name}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            answer = call(GetMessageClass(method.input_type)(page_size=5), timeout=10)
            return MessageToDict(answer)

    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            await at.until(run, lambda now: now.pid)
            address = f"unix:{at.config.daemon.control_socket}"
            answer = await asyncio.to_thread(generic, address)

            assert answer["runs"][0]["id"] == run
            assert answer["runs"][0]["state"] == "RUN_STATE_STARTING"
            assert answer["runs"][0]["spec"]["train"]["steps"] == "100"

    play(scene)


def test_a_run_shows_what_it_came_to(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            for step, loss in ((1, 4.0), (2, 3.0)):
                await trainer.telemetry(step, loss)
            evaluation = run_pb2.Evaluation(step=2, metrics={"bits": 1.5})
            await trainer.report(evaluated=event_pb2.Evaluated(evaluation=evaluation))
            await trainer.save(2)
            await trainer.fault("checkpoint_save_failed", reason="no_space")
            await trainer.finish("decided", 0)
            await trainer.until_acknowledged()
            view = await at.get(run)

            assert (view.step, view.loss, view.first_loss) == (2, 3.0, 4.0)
            assert view.first_evaluation == view.last_evaluation == evaluation
            assert (view.durable_step, view.checkpoint_failures) == (2, 1)
            assert view.last_fault.reason == "no_space"
            assert view.attached
            assert view.phase == fault_pb2.PHASE_STEP
            # It has not ended: what a dying trainer amounts to is not the run's result.
            assert not view.HasField("result")

            at.launcher.exit(run, 1, exit_code=77)
            view = await at.until(run, lambda now: now.incarnation == 2)
            assert view.restarts == 1
            assert "exited with code 77" in view.last_fault.message

    play(scene)


def test_a_run_shows_its_snapshots_and_takes_none_for_durable(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.save(2)
            report = trainer_pb2.StepReport(step=40, snapshot_step=38, snapshot_every=12)
            await trainer.say(0, step_report=report)
            view = await at.until(run, lambda now: now.step == 40)
            assert (view.snapshot_step, view.snapshot_every) == (38, 12)
            source = f"/dev/shm/run/a{SNAPSHOT_SUFFIX}"
            restored = event_pb2.StateRestored(step=38, batch=38, source=source)
            await trainer.report(state_restored=restored)
            await trainer.until_acknowledged()
            view = await at.get(run)
            # What is in memory is gone with the host.
            assert view.durable_step == 2

    play(scene)


def test_runs_are_listed_newest_first_page_by_page(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            ids = [await at.submit(name) for name in ("a", "b", "c", "d", "e")]
            pages, token = [], ""
            while True:
                request = control_pb2.ListRunsRequest(page_size=2, page_token=token)
                page = await at.control.ListRuns(request)
                pages.append([run.id for run in page.runs])
                token = page.next_page_token
                if not token:
                    break

            assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]

    play(scene)


def test_a_run_is_found_by_its_id_or_a_unique_beginning(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            first, second = await at.submit("aa"), await at.submit("ab")

            assert (await at.get(first)).id == first
            assert (await at.get("ab")).id == second
            for text in ("a", "x", ""):
                request = control_pb2.GetRunRequest(run=text)
                await refused(at.control.GetRun(request), CODE.NOT_FOUND, "RUN_NOT_FOUND")

    play(scene)


@pytest.mark.parametrize("call", ["WatchRun", "ListEvents"])
def test_a_stream_of_a_run_that_is_not_there_is_refused(root: Path, call: str) -> None:
    async def scene() -> None:
        async with house(root) as at:
            method = getattr(at.control, call)
            request = getattr(control_pb2, f"{call}Request")(run="x")

            async def consume() -> None:
                async for _ in method(request):
                    pass

            await refused(consume(), CODE.NOT_FOUND, "RUN_NOT_FOUND")

    play(scene)
