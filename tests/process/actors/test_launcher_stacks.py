"""Where a hung trainer hangs is in its exit record, and finding out takes a second at most."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fakes.launcher_process import launcher, wait_until
from fakes.trainer_scripts import HANGS, SLEEPER
from trainerd.actors.launcher.stacks import MAX_BYTES
from trainerd.v1 import event_pb2, launcher_pb2


@pytest.fixture(autouse=True)
def _no_spy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def spy(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a `py-spy` on the launcher's PATH."""
    program = directory / "py-spy"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def killed(script: str, *, stopped: bool = False) -> event_pb2.TrainerExited:
    with launcher(script) as host:
        watch = host.watch()
        pid = host.start_trainer()
        host.wait_log("ready")
        if stopped:
            os.kill(pid, signal.SIGSTOP)
            stat = Path(f"/proc/{pid}/stat")
            wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the stop")
        assert host.kill_trainer(collect_stacks=True)
        exited = watch.wait_exits(1)[0].exited
        assert (exited.signal, exited.killed_by_launcher) == (signal.SIGKILL, True)
        return exited


def test_the_python_stacks_of_all_threads_are_there_even_if_one_holds_the_interpreter() -> None:
    stacks = killed(HANGS).stacks
    kernel, _, python = stacks.partition("== Python frames (faulthandler)\n")
    assert "holds_the_lock" in python
    assert "reads_for_ever" in python
    assert kernel.startswith("== threads, as the kernel sees them\n")
    assert len(kernel.strip().splitlines()) == 3


def test_a_stopped_trainer_is_killed_all_the_same() -> None:
    stacks = killed(HANGS, stopped=True).stacks
    assert " T" in stacks.splitlines()[1]
    assert "faulthandler" not in stacks


def test_who_has_no_handler_is_not_ended_by_the_question() -> None:
    assert "faulthandler" not in killed(SLEEPER).stacks


def test_native_frames_are_there_where_py_spy_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy(tmp_path, monkeypatch, 'echo "spied: $*"')
    assert "== native frames (py-spy)\nspied: dump --native --pid " in killed(HANGS).stacks


def test_a_py_spy_that_does_not_end_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "pid"
    spy(tmp_path, monkeypatch, f"echo $$ > {mark}; echo begun; exec sleep 60")
    assert "begun" in killed(HANGS).stacks
    wait_until(lambda: not Path(f"/proc/{mark.read_text().strip()}").exists(), "its end")


def test_stacks_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy(tmp_path, monkeypatch, "head -c 10000000 /dev/zero | tr '\\0' x")
    talks = HANGS.replace("say('ready')", "say('ready')\n    signal.signal(2, lambda *_: 0)")
    stacks = killed(talks).stacks
    assert 1000 < len(stacks.encode()) <= MAX_BYTES
    assert "holds_the_lock" in stacks


def test_without_the_question_nothing_is_collected() -> None:
    with launcher(HANGS) as host:
        watch = host.watch()
        host.start_trainer()
        host.wait_log("ready")
        host.kill_trainer()
        assert watch.wait_exits(1)[0].exited.stacks == ""
        assert "holds_the_lock" not in host.log()


def test_the_stacks_survive_the_launcher() -> None:
    with launcher(HANGS) as host:
        watch = host.watch()
        host.start_trainer()
        host.wait_log("ready")
        host.kill_trainer(collect_stacks=True)
        watch.wait_exits(1)
        host.sigkill()
        host.start()
        assert "holds_the_lock" in host.watch().wait_exits(1)[0].exited.stacks


def test_a_launcher_that_ends_meanwhile_collects_and_drains() -> None:
    with launcher(HANGS) as host:
        host.start_trainer()
        host.wait_log("ready")
        request = launcher_pb2.KillTrainerRequest(run="r-1", incarnation=1, collect_stacks=True)
        host.stub.KillTrainer(request, timeout=5.0)
        assert host.terminate() == 0
