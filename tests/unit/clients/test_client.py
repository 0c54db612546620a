"""The typed client: handshake, errors, addresses."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from trainerd.clients import (
    ApiError,
    BadInput,
    Client,
    DeadlineExceeded,
    InvalidRun,
    NotFound,
    PermissionDenied,
    Refused,
    Tls,
    TrainerdError,
    Unreachable,
)
from trainerd.clients.address import normalised
from trainerd.clients.failures import from_rpc_error
from trainerd.v1 import control_pb2 as api
from trainerd.v1 import fault_pb2, inject_pb2, link_pb2, run_pb2
from trainerd.v1.protocol import client_address
from unit.clients.fake_control import METHODS, FakeControl, a_run, refuse_invalid

CALLS: dict[str, Callable[[Client], object]] = {
    "GetDaemon": lambda client: client.daemon(),
    "CheckRun": lambda client: client.check_run(run_pb2.RunSpec(name="n"), skip_program=True),
    "SubmitRun": lambda client: client.submit_run(
        run_pb2.RunSpec(name="n"), request_id="r", skip_program_check=True, resume_run="o"
    ),
    "GetRun": lambda client: client.get_run("demo"),
    "ListRuns": lambda client: client.list_runs(page_size=3, page_token="t"),
    "DeleteRun": lambda client: client.delete_run("demo", no_wait=True),
    "PauseRun": lambda client: client.pause_run("demo", no_wait=True),
    "ResumeRun": lambda client: client.resume_run("demo", no_wait=True),
    "StopRun": lambda client: client.stop_run("demo", no_wait=True, no_checkpoint=True),
    "RestartRun": lambda client: client.restart_run("demo", no_wait=True),
    "CheckpointRun": lambda client: client.checkpoint_run("demo", no_wait=True),
    "ListCheckpoints": lambda client: client.list_checkpoints("demo", page_size=3, page_token="t"),
    "VerifyCheckpoints": lambda client: client.verify_checkpoints("demo"),
    "AdoptCheckpoint": lambda client: client.adopt_checkpoint("demo", 3),
    "ExportCheckpoint": lambda client: client.export_checkpoint("demo", "/out", step=3),
    "WatchRun": lambda client: list(client.watch_run("demo", after_sequence=4)),
    "ListEvents": lambda client: list(client.list_events("demo", after_sequence=4, follow=True)),
    "ExplainRun": lambda client: client.explain_run("demo"),
    "ListIncidents": lambda client: client.list_incidents("demo", page_size=3, page_token="t"),
    "GetIncident": lambda client: client.get_incident("demo", 3),
    "ReplayRunIncident": lambda client: client.replay_incident("demo", 3, cpu=True),
    "GetPolicy": lambda client: client.get_policy("demo"),
    "SetPolicy": lambda client: client.set_policy(
        "demo", fault_pb2.Policy(backoff_s=2), dry_run=True, end_dry_run=True
    ),
    "SimulatePolicy": lambda client: client.simulate_policy("demo", fault_pb2.Policy(backoff_s=2)),
    "InjectFault": lambda client: client.inject_fault("demo", inject_pb2.Injection(step=3)),
    "ReadRunLog": lambda client: client.read_run_log(
        "demo", incarnation=2, offset=5, max_bytes=6, host="h"
    ),
    "ListStepMetrics": lambda client: client.list_step_metrics(
        "demo", after_step=7, page_size=3, page_token="t"
    ),
    "ProfileRun": lambda client: client.profile_run("demo", 3, directory="/p", no_wait=True),
    "CollectRunStacks": lambda client: client.collect_run_stacks("demo"),
}


def test_there_is_a_method_for_every_call_and_it_passes_every_field(fake: FakeControl) -> None:
    assert set(CALLS) == set(METHODS)
    service = api.DESCRIPTOR.services_by_name["ControlService"]
    with Client(fake.address) as client:
        for method, call in CALLS.items():
            response = getattr(api, service.methods_by_name[method].output_type.name)()
            if method != "GetDaemon":
                streamed = method in ("WatchRun", "ListEvents")
                fake.answer(method, [response] if streamed else response)
            answered = call(client)
            if method != "GetDaemon":
                assert answered == ([response] if isinstance(answered, list) else response)
            sent = fake.requests[method][-1]
            unset = [f.name for f in sent.DESCRIPTOR.fields if f not in dict(sent.ListFields())]
            assert unset == [], f"{method} leaves out {unset}"


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (grpc.StatusCode.NOT_FOUND, NotFound, 3),
        (grpc.StatusCode.FAILED_PRECONDITION, Refused, 4),
        (grpc.StatusCode.ABORTED, Refused, 4),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Refused, 4),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied, 6),
        (grpc.StatusCode.UNAUTHENTICATED, PermissionDenied, 6),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRun, 2),
        (grpc.StatusCode.CANCELLED, Unreachable, 5),
        (grpc.StatusCode.INTERNAL, ApiError, 5),
        (grpc.StatusCode.UNIMPLEMENTED, ApiError, 5),
    ],
)
def test_a_status_is_a_typed_error_with_its_exit_code(
    fake: FakeControl, code: grpc.StatusCode, kind: type[TrainerdError], exit_code: int
) -> None:
    fake.refuse("GetRun", code, "said so\n  because")
    with Client(fake.address) as client, pytest.raises(kind) as raised:
        client.get_run("x")
    assert type(raised.value) is kind
    assert raised.value.exit_code == exit_code
    assert "\n" not in raised.value.message
    if code is not grpc.StatusCode.CANCELLED:
        assert "said so because" in raised.value.message


def test_an_invalid_run_carries_whole_problems(fake: FakeControl) -> None:
    problem = api.Problem(field="entry", message="m", suggestion="s", detail="Traceback\n  x")
    fake.answers["SubmitRun"] = lambda request, context: refuse_invalid(context, problem)
    with Client(fake.address) as client, pytest.raises(InvalidRun) as raised:
        client.submit_run(run_pb2.RunSpec())
    assert list(raised.value.problems) == [problem]


def test_field_violations_alone_are_problems_too(fake: FakeControl) -> None:
    request = error_details_pb2.BadRequest()
    violation = request.field_violations.add(field="train.steps", description="too few")
    violation.localized_message.message = "more"
    fake.refuse("SubmitRun", grpc.StatusCode.INVALID_ARGUMENT, "bad", request)
    with Client(fake.address) as client, pytest.raises(InvalidRun) as raised:
        client.submit_run(run_pb2.RunSpec())
    expected = api.Problem(field="train.steps", message="too few", suggestion="more")
    assert list(raised.value.problems) == [expected]


def test_more_than_the_usual_size_of_details_comes_through(fake: FakeControl) -> None:
    problem = api.Problem(message="m", detail="x" * 100_000)
    fake.answers["SubmitRun"] = lambda request, context: refuse_invalid(context, problem)
    with Client(fake.address) as client, pytest.raises(InvalidRun) as raised:
        client.submit_run(run_pb2.RunSpec())
    assert raised.value.problems[0].detail == problem.detail


def test_a_call_without_an_answer_ends_at_its_deadline(fake: FakeControl) -> None:
    fake.answers["GetRun"] = lambda request, context: fake.closing.wait(30)
    fake.answers["PauseRun"] = fake.answers["GetRun"]
    with Client(fake.address, 0.2, work_timeout_s=0.3) as client:
        with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.2 s") as raised:
            client.get_run("x")
        assert raised.value.exit_code == 5
        with pytest.raises(DeadlineExceeded, match=r"the pause of x was asked for.*0\.3 s"):
            client.pause_run("x")
    fake.closing.set()


def test_no_socket_a_dead_socket_and_a_free_port_are_unreachable(tmp_path: Path) -> None:
    dead = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    for address in (f"unix:{tmp_path}/none", f"unix:{dead}", "127.0.0.1:1"):
        with pytest.raises(Unreachable, match="no daemon answers at") as raised, Client(address):
            pass
        assert address in raised.value.message
        assert "trainerd serve" in raised.value.message
    assert "Connection refused" in raised.value.message


def test_a_socket_one_may_not_open_is_a_matter_of_permission() -> None:
    class Failed(grpc.RpcError, grpc.Call):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

        def details(self) -> str:
            return "failed to connect: unix:/run/s error: Permission denied"

        def trailing_metadata(self) -> tuple[()]:
            return ()

    Failed.__abstractmethods__ = frozenset()
    error = from_rpc_error(Failed(), address="unix:/run/s", timeout_s=1)
    assert type(error) is PermissionDenied
    assert "/run/s" in error.message


def test_what_the_daemon_itself_says_of_being_unavailable_is_passed_on(fake: FakeControl) -> None:
    info = error_details_pb2.ErrorInfo(reason="JOURNAL_UNWRITABLE", domain="trainerd")
    fake.refuse("GetRun", grpc.StatusCode.UNAVAILABLE, "the disk is full", info)
    with Client(fake.address) as client, pytest.raises(Unreachable, match=r"^the disk is full$"):
        client.get_run("x")


def test_a_daemon_of_another_protocol_is_refused_before_any_other_call(fake: FakeControl) -> None:
    other = link_pb2.ProtocolVersion(major=9, minor=1, software="7.0")
    fake.answer("GetDaemon", api.GetDaemonResponse(protocol=other))
    client = Client(fake.address)
    with pytest.raises(ApiError, match=r"protocol 9\.1 \(trainerd 7\.0\), expected protocol 1\.x"):
        client.get_run("x")
    client.close()
    assert fake.requests["GetRun"] == []
    assert fake.requests["GetDaemon"][0].protocol.major == 1


def test_something_else_that_answers_is_said_not_to_be_a_daemon(fake: FakeControl) -> None:
    del fake.answers["GetDaemon"]
    with pytest.raises(ApiError, match="is it a trainerd daemon"), Client(fake.address):
        pass


def test_a_stream_ends_quietly_when_it_is_cancelled(fake: FakeControl) -> None:
    def watch(request: object, context: object) -> object:
        yield api.WatchRunResponse(run=a_run())
        fake.closing.wait(30)

    fake.answers["WatchRun"] = watch
    with Client(fake.address) as client:
        stream = client.watch_run("x")
        seen = []

        def read() -> None:
            seen.extend(stream)

        reader = threading.Thread(target=read)
        reader.start()
        while not fake.requests["WatchRun"]:
            reader.join(0.01)
        stream.cancel()
        reader.join(10)
        assert not reader.is_alive()
    assert len(seen) <= 1


def test_the_default_address_is_the_protocols_own(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    assert client.address == client_address()
    client.close()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("unix:/a/b", "unix:/a/b"),
        ("unix:///a/b", "unix:/a/b"),
        ("/a/b", "unix:/a/b"),
        ("localhost:80", "localhost:80"),
        ("[::1]:80", "[::1]:80"),
    ],
)
def test_addresses_are_normalised(given: str, wanted: str) -> None:
    assert normalised(given) == wanted


def test_a_relative_socket_is_relative_to_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert normalised("unix:s") == f"unix:{os.getcwd()}/s"


@pytest.mark.parametrize("address", ["host", "host:", ":1", "host:x", "host:70000", "unix:", ""])
def test_what_is_no_address_is_bad_input(address: str) -> None:
    with pytest.raises(BadInput, match="address"):
        normalised(address)


def test_a_socket_path_that_is_too_long_is_bad_input() -> None:
    with pytest.raises(BadInput, match="at most 107"):
        normalised("unix:/" + "x" * 107)


def test_plain_tcp_is_for_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="another machine"):
        Client("example.org:443")
    with pytest.raises(BadInput, match="TLS is for host:port"):
        Client("unix:/x", tls=Tls(ca=tmp_path / "ca"))
    with pytest.raises(BadInput, match=r"cannot read .*ca: No such file"):
        Client("example.org:443", tls=Tls(ca=tmp_path / "ca"))
    with pytest.raises(BadInput, match="needs its key"):
        Client("example.org:443", tls=Tls(cert=tmp_path / "cert"))
    for address in ("localhost:1", "127.1.2.3:1", "[::1]:1"):
        Client(address).close()


def test_a_daemon_that_is_slow_to_shake_hands_is_there_all_the_same(
    fake: FakeControl, tmp_path: Path
) -> None:
    """A loaded host: the connection stands, and the first answer on it takes its time."""
    fake.answer("GetRun", api.GetRunResponse(run=a_run()))
    place = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        listener.settimeout(10.0)
        busy = threading.Thread(target=forward, args=(listener, fake.address, 0.5))
        busy.start()
        try:
            with Client(f"unix:{place}") as client:
                assert client.get_run("demo").run.spec.name == "demo"
        finally:
            busy.join(10.0)
    assert not busy.is_alive()


def forward(listener: socket.socket, address: str, after_s: float) -> None:
    """Pass one connection on to the real server, once the time is over, until either end closes."""
    near, _ = listener.accept()
    threading.Event().wait(after_s)
    with near, socket.socket(socket.AF_UNIX) as far:
        far.connect(address.removeprefix("unix:"))
        other = {near: far, far: near}
        while True:
            readable, _, _ = select.select(list(other), [], [], 10.0)
            for end in readable:
                data = end.recv(65536)
                if not data:
                    return
                other[end].sendall(data)
            if not readable:
                return
