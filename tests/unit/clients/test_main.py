"""The command line itself: options, versions, output that nobody reads."""

from __future__ import annotations

import ast
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import trainerd.clients
from trainerd.v1 import control_pb2 as api
from trainerd.v1 import event_pb2
from trainerd.v1.protocol import SOFTWARE
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl, a_run, completed, environment

Ctl = Callable[..., Ended]
MODULE = [sys.executable, "-m", "trainerd.clients"]
PACKAGE = Path(trainerd.clients.__file__).parent


def test_version_and_help(ctl: Ctl) -> None:
    assert ctl("--version") == Ended(0, f"trainerctl {SOFTWARE}\n", "")
    ended = ctl("--help")
    assert ended.code == 0
    assert "75 the run stopped" in " ".join(ended.out.split())
    for command in ("run", "submit", "check", "list", "status", "watch", "events", "logs",
                    "pause", "resume", "restart", "checkpoint", "stop", "delete"):  # fmt: skip
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


def test_the_module_is_the_console_script(fake: FakeControl) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=a_run()))
    done = subprocess.run(
        [*MODULE, "status", "demo"],
        env=environment(TRAINERD_ADDRESS=fake.address),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo-1a2b" in done.stdout


def many_events(fake: FakeControl) -> None:
    event = event_pb2.Event(resume_requested=event_pb2.ResumeRequested())
    fake.answer("ListEvents", [api.ListEventsResponse(event=event)] * 5000)


def test_a_reader_that_leaves_early_hears_no_complaint(fake: FakeControl) -> None:
    many_events(fake)
    with subprocess.Popen(
        [*MODULE, "events", "--address", fake.address],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_a_full_disk_is_one_line(fake: FakeControl) -> None:
    many_events(fake)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*MODULE, "events", "--address", fake.address],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stderr == "trainerctl: cannot write the output: No space left on device\n"
    assert done.returncode == 2


def test_a_terminal_that_cannot_show_a_character_gets_another(
    fake: FakeControl, tmp_path: Path
) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=a_run(reason="must be ≥ 1")))
    done = subprocess.run(
        [*MODULE, "status", "x", "--address", fake.address],
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"must be ? 1" in done.stdout


@pytest.mark.parametrize(
    ("changes", "live"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_the_live_picture_unless_it_must_not(
    fake: FakeControl, changes: dict[str, str], live: bool
) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=a_run()))
    fake.answer(
        "WatchRun", [api.WatchRunResponse(run=a_run()), api.WatchRunResponse(run=completed())]
    )
    ours, theirs = pty.openpty()
    env = {"TERM": "xterm", "COLUMNS": "80", **changes}
    with subprocess.Popen(
        [*MODULE, "watch", "demo", "--address", fake.address],
        env={**environment(NO_COLOR=""), **env},
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:
            pass  # the other end is closed
        os.close(ours)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
    assert (b"\x1b[" in shown) == live
    assert ("━".encode() in shown) == live
    assert b"demo-1a2b completed at step 400 of 400" in shown


def test_status_loads_neither_rich_nor_jax(fake: FakeControl) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=a_run()))
    code = (
        "import sys; from trainerd.clients.main import main\n"
        "assert main(['--version']) == 0; assert 'grpc' not in sys.modules\n"
        "assert main(['status', 'demo']) == 0\n"
        "print(sorted({'rich', 'jax', 'numpy', 'orbax'} & {m.partition('.')[0] "
        "for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(TRAINERD_ADDRESS=fake.address),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


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
