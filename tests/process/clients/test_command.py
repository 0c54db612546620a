"""`trainerctl` as a process: what reads its output, and what it loads."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from trainerd.v1 import control_pb2 as api
from trainerd.v1 import event_pb2
from unit.clients.fake_control import FakeControl, a_run, completed, environment

MODULE = [sys.executable, "-m", "trainerd.clients"]


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
