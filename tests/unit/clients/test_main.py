"""The command line itself: options, versions, output that nobody reads."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

import trainerd.clients
from trainerd.v1 import control_pb2 as api
from trainerd.v1.protocol import SOFTWARE
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl, a_run

Ctl = Callable[..., Ended]
PACKAGE = Path(trainerd.clients.__file__).parent


def test_version_and_help(ctl: Ctl) -> None:
    assert ctl("--version") == Ended(0, f"trainerctl {SOFTWARE}\n", "")
    ended = ctl("--help")
    assert ended.code == 0
    assert "75 the run stopped" in " ".join(ended.out.split())
    for command in ("run", "submit", "check", "list", "status", "watch", "events", "logs",
                    "pause", "resume", "restart", "checkpoint", "checkpoints", "stop", "delete",
                    "metrics", "profile", "stacks", "why", "incidents", "incident", "policy",
                    "inject", "replay"):  # fmt: skip
        assert f"    {command} " in ended.out
        assert ctl(command, "--help").code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["status"], "RUN"),
        (["status", " "], "must be a run's id"),
        (["status", "a", "b"], "unrecognized arguments: b"),
        (["status", "a", "--jso"], "unrecognized arguments: --jso"),
        (["list", "--timeout", "0"], "must be a number of seconds > 0, got '0'"),
        (["list", "--timeout", "nan"], "must be a number of seconds > 0"),
        (["list", "--limit", "-1"], "argument --limit"),
        (["list", "--address", "nowhere"], "must be unix:PATH or host:port, got 'nowhere'"),
        (["list", "--tls-cert", "x"], "give --tls-cert and --tls-key together"),
        (["submit", "x", "--request-id", "r" * 129], "1 to 128 characters, got 129"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(ctl: Ctl, line: list[str], message: str) -> None:
    ended = ctl(*line)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    ended = ctl("--json", *line)
    assert (ended.code, ended.error["kind"], ended.error["exitCode"]) == (2, "bad_input", 2)


def test_the_address_comes_from_option_or_environment(
    fake: FakeControl, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=a_run()))
    assert ctl("status", "demo", "--address", fake.address).code == 0
    assert ctl("--address", fake.address, "status", "demo").code == 0
    assert ctl("status", "demo").code == 5
    monkeypatch.setenv("TRAINERD_ADDRESS", fake.address)
    assert ctl("status", "demo").code == 0
    assert ctl("status", "demo", "--address", "unix:/nonexistent").code == 5, "the option wins"


def test_the_front_door_has_every_name_it_promises() -> None:
    for name in trainerd.clients.__all__:
        assert getattr(trainerd.clients, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        trainerd.clients.Nothing  # noqa: B018


def test_clients_import_neither_the_daemon_nor_the_actors() -> None:
    foreign = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            foreign += [
                (file.name, name)
                for name in names
                if name.startswith(("trainerd.daemon", "trainerd.actors", "jax", "numpy"))
            ]
    assert foreign == []
