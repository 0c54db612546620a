"""Calls of a launcher over the link between two daemons."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from fakes.launcher import FakeLauncher, serving
from trainerd.daemon.cluster.tunnel import METHODS, answered, error_of, stub
from trainerd.daemon.refusals import reason_of
from trainerd.v1 import host_pb2, launcher_pb2, launcher_pb2_grpc
from trainerd.v1.protocol import CHANNEL_OPTIONS
from unit.daemon.house import play, short_directory


@asynccontextmanager
async def tunnel(root: Path, fake: FakeLauncher) -> AsyncIterator[Any]:
    """A stub whose calls are carried through both ends of a tunnel to a real server."""
    async with (
        serving(fake, root / "l.sock"),
        grpc.aio.insecure_channel(f"unix:{root / 'l.sock'}", options=CHANNEL_OPTIONS) as channel,
    ):
        real: Any = launcher_pb2_grpc.LauncherServiceStub(channel)

        async def carry(call: host_pb2.LauncherCall) -> bytes:
            sent = host_pb2.LauncherCall.FromString(call.SerializeToString())
            answer = await answered(lambda: real, sent)
            if answer.WhichOneof("answer") == "failed":
                raise error_of(answer.failed)
            return answer.response

        yield stub(carry)


def test_every_method_but_the_watch_can_be_called() -> None:
    service = launcher_pb2.DESCRIPTOR.services_by_name["LauncherService"]
    unary = {method.name for method in service.methods if not method.server_streaming}

    assert set(METHODS.values()) == unary


def test_a_call_comes_back_with_its_response() -> None:
    async def scene() -> None:
        with short_directory() as root:
            async with tunnel(root, FakeLauncher()) as launcher:
                request = launcher_pb2.ReadLogRequest(run="r-1")
                response = await launcher.ReadLog(request, timeout=5.0)
                assert response.data == b"log of r-1"

    play(scene)


def test_a_refusal_comes_back_with_its_status_and_its_reason() -> None:
    async def scene() -> None:
        with short_directory() as root:
            async with tunnel(root, FakeLauncher(busy="run x")) as launcher:
                request = launcher_pb2.StartTrainerRequest()
                request.assignment.run, request.assignment.incarnation = "r", 1
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await launcher.StartTrainer(request, timeout=5.0)

        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason_of(refused.value) == "DEVICES_BUSY"
        assert "run x" in (refused.value.details() or "")

    play(scene)


def test_a_launcher_that_is_not_linked_is_unavailable() -> None:
    async def scene() -> None:
        def unlinked() -> Any:
            raise OSError("the launcher is not linked: gone")

        call = host_pb2.LauncherCall(call=7, timeout_s=1.0)
        call.remove_run.run = "r"
        answer = await answered(unlinked, call)

        error = error_of(answer.failed)
        assert answer.call == 7
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details() == "the launcher is not linked: gone"
        assert reason_of(error) == ""

    play(scene)


def test_a_call_of_a_newer_supervisor_is_unimplemented() -> None:
    async def scene() -> None:
        answer = await answered(lambda: None, host_pb2.LauncherCall(call=1))  # type: ignore[arg-type, return-value]
        assert error_of(answer.failed).code() is grpc.StatusCode.UNIMPLEMENTED

    play(scene)


def test_a_status_that_is_not_known_is_unknown() -> None:
    assert error_of(host_pb2.LinkEnd(code=99)).code() is grpc.StatusCode.UNKNOWN
