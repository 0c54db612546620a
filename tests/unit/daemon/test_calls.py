"""What surrounds every call: quotas, deadlines, defects, malformed requests, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog.testing
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from trainerd.daemon import api_server
from trainerd.daemon.api_config import LimitsConfig
from trainerd.daemon.control import Control
from trainerd.v1 import control_pb2, control_pb2_grpc, trainer_pb2
from trainerd.v1.protocol import CHANNEL_OPTIONS
from unit.daemon.house import House, house, play, short_directory, spec
from unit.daemon.statuses import reason_of, refused

CODE = grpc.StatusCode
CONTROL = "/trainerd.v1.ControlService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def raw(at: House, path: str) -> Any:
    """A unary call whose request is bytes as they are."""
    return at.channel.unary_unary(path)


@contextlib.asynccontextmanager
async def watching(at: House, run: str) -> AsyncIterator[Any]:
    """A stream that has answered once, and is left at the end."""
    call = at.control.WatchRun(control_pb2.WatchRunRequest(run=run))
    await call.read()
    try:
        yield call
    finally:
        call.cancel()


def test_a_request_that_is_no_message_is_refused_without_a_stack(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with house(root) as at:
            for junk in (b"\xff", b"\x0a\xff", b"\x0a\x02\xff\xfe"):
                call = raw(at, f"{CONTROL}/GetRun")(junk, timeout=10)
                await refused(call, CODE.INVALID_ARGUMENT, "MALFORMED_REQUEST")
            stream = at.channel.unary_stream(f"{CONTROL}/WatchRun")(b"\xff", timeout=10)
            await refused(anext(aiter(stream)), CODE.INVALID_ARGUMENT, "MALFORMED_REQUEST")
            path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            both = at.channel.stream_stream(path)(iter([b"\xff"]), timeout=10)
            await refused(anext(aiter(both)), CODE.INVALID_ARGUMENT, "MALFORMED_REQUEST")
            missing = raw(at, "/grpc.health.v1.Health/List")(b"", timeout=10)
            await refused(missing, CODE.UNIMPLEMENTED, "UNIMPLEMENTED")

    with structlog.testing.capture_logs() as told:
        play(scene)

    assert [each for each in told if each["log_level"] == "error"] == []
    assert caplog.records == []


def test_a_trainer_that_sends_no_message_is_refused_without_a_stack(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with (
            house(root) as at,
            grpc.aio.insecure_channel(
                f"unix:{at.config.daemon.attach_socket}", options=CHANNEL_OPTIONS
            ) as channel,
        ):
            method = trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"].methods[0]
            path = f"/{method.containing_service.full_name}/{method.name}"
            stream = channel.stream_stream(path)(iter([b"\xff"]), timeout=10)
            await refused(anext(aiter(stream)), CODE.INVALID_ARGUMENT, "MALFORMED_REQUEST")

    play(scene)
    assert caplog.records == []


def test_a_request_that_is_too_long_is_refused_with_the_limit(root: Path) -> None:
    async def scene() -> None:
        async with house(root, limits=LimitsConfig(request_bytes=1000)) as at:
            long = control_pb2.GetRunRequest(run="x" * 1000)
            error = await refused(
                at.control.GetRun(long), CODE.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE"
            )
            assert "at most 1000 bytes" in str(error.details())
            # Far beyond it nothing is read.
            far = control_pb2.GetRunRequest(run="x" * 10_000)
            await refused(at.control.GetRun(far), CODE.RESOURCE_EXHAUSTED, "")

    play(scene)


def test_headers_have_a_limit(root: Path) -> None:
    async def scene() -> None:
        async with house(root, limits=LimitsConfig(metadata_bytes=4096)) as at:
            request = control_pb2.GetDaemonRequest()
            await at.control.GetDaemon(request, metadata=[("x", "y" * 1000)])
            call = at.control.GetDaemon(request, metadata=[("x", "y" * 10_000)])
            await refused(call, CODE.RESOURCE_EXHAUSTED, "")

    play(scene)


def test_a_connection_that_never_speaks_http2_is_closed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_server, "HANDSHAKE_MS", 100)

    async def closed(at: House, sent: bytes) -> bool:
        reader, writer = await asyncio.open_unix_connection(str(at.config.daemon.control_socket))
        writer.write(sent)
        try:
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        writer.close()
        return True

    async def scene() -> None:
        async with house(root) as at:
            for sent in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
                assert await closed(at, sent)
            await at.submit()

    play(scene)


def test_streams_at_once_are_bounded_and_given_back(root: Path) -> None:
    limits = LimitsConfig(streams=4, streams_per_client=2)

    async def scene() -> None:
        async with house(root, limits=limits) as at:
            run = await at.submit()
            async with watching(at, run), watching(at, run):
                third = at.control.WatchRun(control_pb2.WatchRunRequest(run=run))
                error = await refused(
                    anext(aiter(third)), CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS"
                )
                assert "unix has 2 streams at once" in str(error.details())
                await at.get(run)  # Calls have a count of their own.
            while True:  # Those that were left are counted until the daemon hears of it.
                with contextlib.suppress(grpc.aio.AioRpcError):
                    async with watching(at, run):
                        break
                await asyncio.sleep(0.005)

    play(scene)


def test_calls_at_once_are_bounded(root: Path) -> None:
    async def scene() -> None:
        async with house(root, limits=LimitsConfig(calls=2)) as at:
            at.launcher.answers_start = False
            run = await at.submit()
            waiting = [
                asyncio.ensure_future(
                    at.control.RestartRun(control_pb2.RestartRunRequest(run=run), timeout=30)
                )
                for _ in range(2)
            ]
            error: grpc.aio.AioRpcError | None = None
            while error is None:
                try:
                    await at.get(run)
                except grpc.aio.AioRpcError as found:
                    error = found
                await asyncio.sleep(0.005)
            assert reason_of(error) == "TOO_MANY_CALLS"
            for each in waiting:
                each.cancel()
            await asyncio.wait(waiting)

    play(scene)


def test_a_call_whose_deadline_has_passed_holds_nothing(root: Path) -> None:
    async def scene() -> None:
        async with house(root, limits=LimitsConfig(calls=2)) as at:
            at.launcher.answers_start = False
            run = await at.submit()
            for _ in range(5):
                restart = control_pb2.RestartRunRequest(run=run)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await at.control.RestartRun(restart, timeout=0.05)
                assert caught.value.code() is CODE.DEADLINE_EXCEEDED
                found: grpc.aio.AioRpcError | None = caught.value
                while found is not None:
                    try:
                        await at.get(run)
                        found = None
                    except grpc.aio.AioRpcError as error:
                        found = error
                    await asyncio.sleep(0.005)

    play(scene)


def test_a_call_without_a_deadline_has_the_daemons(root: Path) -> None:
    async def scene() -> None:
        async with house(root, limits=LimitsConfig(call_s=0.05)) as at:
            at.launcher.answers_start = False
            run = await at.submit()
            call = at.control.RestartRun(control_pb2.RestartRunRequest(run=run))
            await refused(call, CODE.DEADLINE_EXCEEDED, "NO_DEADLINE_GIVEN")
            # A client's own deadline may be longer; and a stream has none.
            async with watching(at, run) as stream:
                mine = at.control.RestartRun(control_pb2.RestartRunRequest(run=run), timeout=0.5)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await mine
                assert (caught.value.code(), reason_of(caught.value)) == (
                    CODE.DEADLINE_EXCEEDED,
                    "",
                )
                assert not stream.done()

    play(scene)


def test_a_defect_of_ours_is_logged_whole_and_told_in_a_word(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Control, request: Any, context: Any) -> None:
        raise ZeroDivisionError("the secret detail")

    monkeypatch.setattr(Control, "ListRuns", broken)

    async def scene() -> None:
        async with house(root) as at:
            call = at.control.ListRuns(control_pb2.ListRunsRequest(), timeout=10)
            error = await refused(call, CODE.INTERNAL, "DEFECT")
            assert "secret" not in str(error.details())

    with structlog.testing.capture_logs() as told:
        play(scene)
    (failed,) = [each for each in told if each["event"] == "call_failed"]
    assert failed["exc_info"]


def test_when_the_daemon_ends_waiting_calls_and_streams_are_told(root: Path) -> None:
    async def scene() -> None:
        address = f"unix:{root / 'c.sock'}"
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            stub: Any = control_pb2_grpc.ControlServiceStub(channel)
            async with house(root) as at:
                at.launcher.answers_start = False
                run = await at.submit()
                stream = stub.WatchRun(control_pb2.WatchRunRequest(run=run), timeout=30)
                messages = aiter(stream)
                await anext(messages)
                wait = asyncio.ensure_future(
                    stub.RestartRun(control_pb2.RestartRunRequest(run=run), timeout=30)
                )
                # On the stream that was there before: a new one begins with what is, not what was.
                async for response in messages:
                    if any(event.HasField("restart_requested") for event in response.events):
                        break

            await refused(wait, CODE.UNAVAILABLE, "DAEMON_ENDING")

            async def rest() -> None:
                async for _ in messages:
                    pass

            await refused(rest(), CODE.UNAVAILABLE, "DAEMON_ENDING")

    play(scene)


def test_health_is_told_for_each_service_and_ends_before_the_servers(root: Path) -> None:
    async def scene() -> None:
        address = f"unix:{root / 'c.sock'}"
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)

            async def status(service: str) -> int:
                request = health_pb2.HealthCheckRequest(service=service)
                return int((await stub.Check(request, timeout=10)).status)

            async with house(root) as at:
                for service in (
                    "",
                    "trainerd.v1.ControlService",
                    "trainerd.v1.TrainerService",
                    "trainerd.v1.LauncherService",
                ):
                    # The launcher's follows its link.
                    while await status(service) != SERVING:
                        await asyncio.sleep(0.005)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await status("trainerd.v1.NoService")
                assert caught.value.code() is CODE.NOT_FOUND
                await at.launcher.stop_serving()
                await at.until_unlinked()
                while await status("trainerd.v1.LauncherService") != NOT_SERVING:
                    await asyncio.sleep(0.005)
                assert await status("trainerd.v1.ControlService") == SERVING
                request = health_pb2.HealthCheckRequest(service="trainerd.v1.ControlService")
                watch = stub.Watch(request, timeout=30)
                told = aiter(watch)
                assert (await anext(told)).status == SERVING
            assert (await anext(told)).status == NOT_SERVING
            watch.cancel()

    play(scene)


def test_a_generic_client_finds_and_calls_everything_by_reflection(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit("reflected")
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(at.channel)

            async def ask(**question: str) -> reflection_pb2.ServerReflectionResponse:
                request = reflection_pb2.ServerReflectionRequest(**question)
                async for answer in stub.ServerReflectionInfo(iter([request]), timeout=10):
                    return answer
                raise AssertionError("no answer")

            listed = await ask(list_services="")
            names = [each.name for each in listed.list_services_response.service]
            assert "trainerd.v1.ControlService" in names
            pool = DescriptorPool()
            files = await ask(file_containing_symbol="trainerd.v1.ControlService")
            found = [
                descriptor_pb2.FileDescriptorProto.FromString(each)
                for each in files.file_descriptor_response.file_descriptor_proto
            ]
            while found:
                for each in found:
                    if all(_known(pool, name) for name in each.dependency):
                        pool.Add(each)
                        found.remove(each)
                        break
            service = pool.FindServiceByName("trainerd.v1.ControlService")
            assert len(service.methods) == len(
                control_pb2.DESCRIPTOR.services_by_name["ControlService"].methods
            )
            method = service.methods_by_name["GetRun"]
            request = ParseDict({"run": run}, GetMessageClass(method.input_type)())
            call = at.channel.unary_unary(
                f"/{service.full_name}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            answer = MessageToDict(await call(request, timeout=10))
            assert answer["run"]["spec"]["name"] == "reflected"

    play(scene)


def _known(pool: DescriptorPool, name: str) -> bool:
    try:
        pool.FindFileByName(name)
    except KeyError:
        return False
    return True


def test_runs_and_those_that_wait_are_bounded(root: Path) -> None:
    async def scene() -> None:
        async with house(root, limits=LimitsConfig(runs=3, queued=1)) as at:
            first = await at.submit()
            await at.until(first, lambda now: now.pid)
            second = await at.submit()
            request = control_pb2.SubmitRunRequest(spec=spec(), skip_program_check=True)
            await refused(at.control.SubmitRun(request), CODE.RESOURCE_EXHAUSTED, "TOO_MANY_QUEUED")
            await at.control.StopRun(control_pb2.StopRunRequest(run=second))
            await at.submit()
            await refused(at.control.SubmitRun(request), CODE.RESOURCE_EXHAUSTED, "TOO_MANY_RUNS")

    play(scene)


def test_a_request_id_that_stands_for_another_run_is_refused(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            once = control_pb2.SubmitRunRequest(
                spec=spec(), request_id="one", skip_program_check=True
            )
            run = (await at.control.SubmitRun(once)).run.id
            assert (await at.control.SubmitRun(once)).run.id == run
            other = control_pb2.SubmitRunRequest(
                spec=spec(steps=7), request_id="one", skip_program_check=True
            )
            error = await refused(
                at.control.SubmitRun(other), CODE.ALREADY_EXISTS, "REQUEST_ID_REUSED"
            )
            assert "another train.steps" in str(error.details())

    play(scene)


def test_values_of_variables_go_in_and_never_come_out(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            secret = spec()
            secret.trainer.env["TOKEN"] = "do-not-tell"
            request = control_pb2.SubmitRunRequest(spec=secret, skip_program_check=True)
            answer = await at.control.SubmitRun(request)
            run = answer.run.id
            assert dict(answer.run.spec.trainer.env) == {"TOKEN": "***"}
            listed = await at.control.ListRuns(control_pb2.ListRunsRequest())
            told = [answer, listed, await at.get(run), *await at.events(run), *await at.events()]
            async for response in at.control.WatchRun(control_pb2.WatchRunRequest(run=run)):
                told.append(response)
                if response.run.pid:
                    break
            told.append(await at.control.ExplainRun(control_pb2.ExplainRunRequest(run=run)))
            assert not [each for each in told if "do-not-tell" in str(each)]
            # The trainer is told.
            assert at.launcher.assignment(run, 1).spec.trainer.env["TOKEN"] == "do-not-tell"

    play(scene)
