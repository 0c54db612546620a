"""The audit log: who asked for what, what came of it, and how much of it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fakes.certificates import Authority, api, channel
from trainerd.daemon import audit
from trainerd.daemon.api_config import AuditConfig
from trainerd.daemon.audit import summary
from trainerd.daemon.audit_file import AuditFile
from trainerd.daemon.guarding import Call
from trainerd.daemon.roles import Peer
from trainerd.v1 import control_pb2, control_pb2_grpc
from unit.daemon.house import house, play, short_directory, spec
from unit.daemon.statuses import refused

CODE = grpc.StatusCode
OPERATOR = "spiffe://trainerd/operator/jo"


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def lines(root: Path) -> list[dict[str, Any]]:
    path = root / "state" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Left:
    """What a handler has of a call that its client has left: gRPC has freed it."""

    def __getattr__(self, name: str) -> Any:
        if name in ("code", "details"):
            return lambda: None
        raise AssertionError(f"gRPC was asked for {name} of a call that is gone")


def test_a_call_that_is_gone_is_not_asked_for_anything(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "audit.jsonl", AuditConfig())
    layer = audit.Audit(file, wall=lambda: 0.0, on_failure=lambda: None)
    call = Call(
        method="/trainerd.v1.HostService/Join",
        request=None,
        context=Left(),  # type: ignore[arg-type]
        peer=Peer(identity="spiffe://trainerd/host/b", roles=frozenset(), transport="tls"),
        address="ipv4:10.0.0.2:5",
        streams=True,
    )

    async def scene() -> None:
        async with layer(call):
            pass

    play(scene)
    file.close()
    told = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["peer"] for line in told] == ["ipv4:10.0.0.2:5"] * 2


def test_each_change_has_a_line_before_it_and_one_with_its_outcome(root: Path) -> None:
    secret = spec()
    secret.trainer.env["API_KEY"] = "do-not-tell"
    submission = control_pb2.SubmitRunRequest(spec=secret, request_id="q", skip_program_check=True)

    async def scene() -> str:
        authority = Authority()
        async with (
            house(root, api=api(root, authority)) as at,
            channel(at.api_address, authority, authority.pair(OPERATOR)) as open_channel,
        ):
            stub: Any = control_pb2_grpc.ControlServiceStub(open_channel)
            run = (await stub.SubmitRun(submission, timeout=10)).run.id
            await refused(
                at.control.ResumeRun(control_pb2.ResumeRunRequest(run=run)),
                CODE.FAILED_PRECONDITION,
                "REFUSED_IN_THIS_STATE",
            )
            await at.get(run)
            await at.events(run)
            return str(run)

    run = play(scene)
    asked, ended, asked_again, refused_line = lines(root)

    assert (asked["stage"], ended["stage"]) == ("asked", "ended")
    assert asked["call"] == ended["call"] != asked_again["call"] == refused_line["call"]
    for line in (asked, ended):
        assert (line["identity"], line["role"], line["transport"]) == (OPERATOR, "operator", "tls")
        assert line["method"] == "SubmitRun"
        assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert asked["request"]["request_id"] == "q"
    assert asked["request"]["spec"]["env"] == ["API_KEY"]
    assert ended["code"] == "OK"
    assert (asked_again["identity"], asked_again["request"]["run"]) == ("unix", run)
    assert refused_line["code"] == "FAILED_PRECONDITION"
    assert run in refused_line["message"]
    path = root / "state" / "audit.jsonl"
    assert "do-not-tell" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_digest_does_not_depend_on_the_values_of_variables_but_on_all_else() -> None:
    def digest(value: str, name: str = "A", steps: int = 100) -> object:
        wanted = spec(steps=steps)
        wanted.trainer.env[name] = value
        return summary(control_pb2.SubmitRunRequest(spec=wanted))["digest"]

    assert digest("x") == digest("y") != digest("x", steps=7)
    assert digest("x") != digest("x", name="B")


def test_who_may_not_has_a_line_but_only_a_few_a_minute(root: Path) -> None:
    async def scene() -> None:
        authority = Authority()
        async with (
            house(root, api=api(root, authority)) as at,
            channel(
                at.api_address, authority, authority.pair("spiffe://trainerd/viewer")
            ) as open_channel,
        ):
            stub: Any = control_pb2_grpc.ControlServiceStub(open_channel)
            for _ in range(2 * audit.DENIALS + 5):
                request = control_pb2.StopRunRequest(run="a")
                await refused(
                    stub.StopRun(request, timeout=10), CODE.PERMISSION_DENIED, "ROLE_REQUIRED"
                )

    play(scene)
    told = lines(root)
    assert {line["stage"] for line in told} == {"denied"}
    # The clock may have come to a new minute once.
    assert audit.DENIALS <= len(told) <= 2 * audit.DENIALS


def test_what_cannot_be_recorded_is_not_done_and_reading_goes_on(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            await at.submit()
        # Stands for a disk that takes no more: what is there is no file to append to.
        path = root / "state" / "audit.jsonl"
        path.unlink()
        path.mkdir()

    async def full() -> None:
        async with house(root) as at:
            run = next(iter((await at.control.ListRuns(control_pb2.ListRunsRequest())).runs)).id
            stop = control_pb2.StopRunRequest(run=run, no_wait=True)
            await refused(at.control.StopRun(stop), CODE.UNAVAILABLE, "AUDIT_UNWRITABLE")
            assert "stop_requested" not in await at.kinds(run)
            assert (await at.get(run)).id == run
            (root / "state" / "audit.jsonl").rmdir()
            await at.control.StopRun(stop)

    play(scene)
    play(full)
    assert lines(root)[0]["lines_lost_before"] == 1


def test_a_file_that_is_full_is_kept_under_a_number_and_the_oldest_goes(tmp_path: Path) -> None:
    log = AuditFile(tmp_path / "audit.jsonl", AuditConfig(max_bytes=25, files=3))
    for number in range(10):
        log.append(f"line {number:03}\n".encode())
    log.close()
    log.append(b"line 010\n")
    log.close()

    kept = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert {name: len(text) // 2 for name, text in kept.items()} == {
        "audit.jsonl": 1,
        "audit.jsonl.1": 2,
        "audit.jsonl.2": 2,
    }
    assert kept["audit.jsonl"] == ["line", "010"]


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    log = AuditFile(tmp_path / "audit.jsonl", AuditConfig())
    log.append(b"whole\n")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(OSError, match="only a part"):
        log.append(b"another\n")
    monkeypatch.undo()
    log.append(b"third\n")
    log.close()

    assert (tmp_path / "audit.jsonl").read_text() == "whole\nthird\n"


class _Broken:
    """A call whose connection is gone: gRPC ends a process that asks it for the peer then."""

    def peer(self) -> str:
        raise AssertionError("asked for the peer of a call whose connection is gone")

    def code(self) -> int:
        return 0

    def details(self) -> str:
        return ""


def test_where_a_call_came_from_is_known_when_its_connection_is_gone(tmp_path: Path) -> None:
    log = AuditFile(tmp_path / "audit.jsonl", AuditConfig())
    layer = audit.Audit(log, wall=lambda: 0.0, on_failure=lambda: None)
    context: Any = _Broken()
    call = Call(
        method="/trainerd.v1.HostService/Join",
        request=None,
        context=context,
        peer=Peer(identity="h", roles=frozenset(), transport="tls"),
        address="ipv4:10.0.0.2:1",
        streams=True,
    )

    async def scene() -> None:
        async with layer(call):
            pass

    play(scene)
    log.close()
    told = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["peer"]) for line in told] == [
        ("asked", "ipv4:10.0.0.2:1"),
        ("ended", "ipv4:10.0.0.2:1"),
    ]
