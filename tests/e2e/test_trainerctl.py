"""`trainerctl` as a person uses it, against real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.host import PROGRAMS, Host, eventually, processes_of

pytestmark = pytest.mark.e2e

RUN_FILE = """\
name = "{name}"
entry = "tiny:build"
[args]
pace_s = {pace_s}
[train]
steps = {steps}
global_batch = 16
microbatch = 4
[trainer]
path = ["{path}"]
"""
CODE_75_STOPPED = 75


def _run_file(folder: Path, *, name: str, steps: int, pace_s: float = 0.0) -> Path:
    file = folder / f"{name}.toml"
    file.write_text(RUN_FILE.format(name=name, steps=steps, path=PROGRAMS, pace_s=pace_s))
    return file


def _trainerctl(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainerd.clients", *arguments],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_submit_wait_ends_with_the_runs_result_and_everything_can_be_asked_as_json(
    shared: Host, tmp_path: Path
) -> None:
    file = _run_file(tmp_path, name="json", steps=40)
    address = {"TRAINERD_ADDRESS": shared.address}
    done = _trainerctl("submit", "--wait", str(file), **address)
    assert done.returncode == 0, done.stderr
    run = done.stdout.splitlines()[0].strip()
    status = json.loads(_trainerctl("status", run, "--json", **address).stdout)
    assert status["run"]["state"] == "RUN_STATE_COMPLETED"
    assert len(status["run"]["result"]["stateDigest"]) == 64
    events = _trainerctl("events", run, "--json", **address).stdout.splitlines()
    assert {"runSubmitted", "checkpointSaved", "trainerExited"} <= {
        key for line in events for key in json.loads(line)["event"]
    }
    table = _trainerctl("metrics", run, "--csv", **address).stdout.splitlines()
    assert [line.partition(",")[0] for line in table] == ["step", *map(str, range(1, 41))]
    log = _trainerctl("logs", run, **address)
    assert log.returncode == 0


def test_every_mistake_in_a_run_file_is_told_with_its_line(shared: Host, tmp_path: Path) -> None:
    file = _run_file(tmp_path, name="typo", steps=0)
    file.write_text(file.read_text() + "[checkpiont]\nkeep = 2\n")
    told = _trainerctl("check", str(file), TRAINERD_ADDRESS=shared.address)
    assert told.returncode == 2
    said = told.stdout + told.stderr
    assert f"{file}:6: train.steps must be ≥ 1, got 0" in said
    assert f"{file}:11: checkpiont is not known" in said
    assert "did you mean checkpoint" in said
    assert "Traceback" not in said


def test_no_daemon_is_one_clear_line_and_code_5(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'nobody.sock'}"
    told = _trainerctl("list", TRAINERD_ADDRESS=address)
    assert told.returncode == 5
    assert len(told.stderr.splitlines()) == 1
    assert address in told.stderr


def test_a_private_daemon_ends_with_its_owner_and_leaves_no_process(
    host: Host, tmp_path: Path
) -> None:
    # The host's own daemon gives way: its folder and sockets serve the private one.
    host.stop()
    file = _run_file(tmp_path, name="private", steps=100_000, pace_s=0.001)
    script = (
        "import sys; from trainerd.clients.main import main; "
        "from trainerd.clients.private_daemon import DAEMON_COMMAND as command; "
        f"sys.exit(main(['run', {str(file)!r}], "
        f"daemon_command=(*command, '--config', {str(host.config)!r})))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "TRAINERD_ADDRESS": host.address},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        for line in owner.stdout:
            if "running" in line:
                break
        owner.send_signal(signal.SIGINT)
        rest = owner.stdout.read()
        assert owner.wait(60) == CODE_75_STOPPED, rest
    assert "stopped" in rest
    eventually("launcher and trainer are gone", lambda: not processes_of(host.folder))
    (run,) = (host.folder / "launcher" / "runs").iterdir()
    assert [each for each in (run / "checkpoints").iterdir() if each.name.isdecimal()]
