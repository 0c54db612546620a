"""The daemon as a process: how it starts, what it weighs, how it ends."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import fakes.launcher
from process.daemon.daemon_process import DEADLINE_S, command, configured, daemon_process
from trainerd.v1 import control_pb2, control_pb2_grpc, run_pb2
from unit.daemon.house import short_directory, spec

RSS_KIB = 60 * 1024


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@contextlib.contextmanager
def client(root: Path) -> Iterator[control_pb2_grpc.ControlServiceStub]:
    with grpc.insecure_channel(f"unix:{root / 'c.sock'}") as channel:
        yield control_pb2_grpc.ControlServiceStub(channel)


def run_daemon(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def submit(control: control_pb2_grpc.ControlServiceStub) -> str:
    request = control_pb2.SubmitRunRequest(spec=spec(), skip_program_check=True)
    return control.SubmitRun(request, timeout=DEADLINE_S).run.id


def test_it_says_when_it_is_ready_weighs_little_and_ends_on_sigterm(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon_process(configured(root)) as daemon:
        word, control_address, metrics_address = daemon.ready.split()
        with client(root) as control:
            run = submit(control)
        with urllib.request.urlopen(f"http://{metrics_address}/metrics", timeout=5) as answer:
            metrics = answer.read().decode()
        rss_kib = daemon.status("VmRSS")
        mapped = Path(f"/proc/{daemon.process.pid}/maps").read_text()
        code = daemon.terminate()
        with capsys.disabled():
            print(f"[ready in {daemon.ready_s:.2f} s, {rss_kib / 1024:.0f} MiB]", end=" ")

    assert (word, control_address) == ("READY", f"unix:{root / 'c.sock'}")
    assert f'trainerd_run_state{{run="{run}",state="queued"}} 1.0' in metrics
    assert rss_kib < RSS_KIB
    assert not [name for name in ("numpy", "jaxlib", "cryptography") if f"/{name}/" in mapped]
    assert code == 0
    # Flushed: nothing is left in the write-ahead log.
    assert not (root / "state" / "journal.sqlite-wal").exists()
    with contextlib.closing(sqlite3.connect(root / "state" / "journal.sqlite")) as database:
        kinds = [kind for (kind,) in database.execute("SELECT kind FROM events ORDER BY sequence")]
    assert kinds == ["daemon_started", "run_submitted", "run_state_changed", "daemon_ended"]
    assert "Traceback" not in daemon.errors.read_text()


def test_a_daemon_that_is_watched_ends_without_a_complaint(root: Path) -> None:
    with daemon_process(configured(root)) as daemon, client(root) as control:
        watch = control.WatchRun(control_pb2.WatchRunRequest(run=submit(control)))
        assert next(watch).run.state == run_pb2.RUN_STATE_QUEUED
        follow = control.ListEvents(control_pb2.ListEventsRequest(follow=True))
        assert next(follow).event.HasField("daemon_started")
        left = control.WatchRun(control_pb2.WatchRunRequest(run="a"))
        next(left)
        left.cancel()
        assert daemon.terminate() == 0
        for stream in (watch, follow):
            with pytest.raises(grpc.RpcError):
                list(stream)

    assert "Traceback" not in daemon.errors.read_text(), daemon.errors.read_text()


def test_a_killed_daemon_has_forgotten_nothing_that_it_acknowledged(root: Path) -> None:
    config = configured(root)
    with daemon_process(config) as daemon, client(root) as control:
        runs = [submit(control) for _ in range(5)]
        daemon.process.kill()
        daemon.process.wait(DEADLINE_S)
    with daemon_process(config) as daemon, client(root) as control:
        listed = control.ListRuns(control_pb2.ListRunsRequest(), timeout=DEADLINE_S).runs
        assert daemon.terminate() == 0

    assert [run.id for run in listed] == runs[::-1]
    assert {run.state for run in listed} == {run_pb2.RUN_STATE_QUEUED}


def test_a_second_daemon_is_refused_in_one_line_and_the_first_goes_on(root: Path) -> None:
    config = configured(root)
    with daemon_process(config) as daemon:
        refused = run_daemon("serve", "--config", str(config))
        with client(root) as control:
            control.GetDaemon(control_pb2.GetDaemonRequest(), timeout=DEADLINE_S)

        assert refused.returncode == 1
        assert refused.stderr.splitlines() == [
            f"trainerd: another daemon (pid {daemon.process.pid}) uses the state directory "
            f"{root / 'state'}"
        ]
        assert refused.stdout == ""


@pytest.mark.parametrize("taken", ["c.sock", "link/a.sock", "metrics"])
def test_what_is_taken_is_told_in_one_line(root: Path, taken: str) -> None:
    config = configured(root)
    (root / "link").mkdir()
    if taken == "metrics":
        server = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        config.write_text(config.read_text().replace("127.0.0.1:0", address))
        expected = f"trainerd: metrics.address {address}: Address already in use; choose"
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(root / taken))
        server.listen()
        expected = f"trainerd: another process answers at unix:{root / taken}"
    refused = run_daemon("serve", "--config", str(config))
    server.close()

    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert refused.stderr.startswith(expected)


def test_a_typo_in_the_configuration_is_told_with_every_other(root: Path) -> None:
    config = root / "c.toml"
    config.write_text('[daemon]\nstate_dir = "x"\n[log]\nlevel = "loud"\n')
    for arguments in (("serve", "--config", str(config)), ("check-config", str(config))):
        refused = run_daemon(*arguments)

        assert refused.returncode == 2
        lines = refused.stderr.splitlines()
        assert len(lines) == 2
        assert "unknown key daemon.state_dir" in lines[0]
        assert lines[1].startswith("trainerd: log.level must be one of")
    assert run_daemon("check-config", str(configured(root))).returncode == 0


@pytest.mark.parametrize("address", ["tcp:host", "unix:relative", f"unix:/{'x' * 120}"])
def test_an_impossible_address_is_bad_input(root: Path, address: str) -> None:
    refused = run_daemon("serve", "--config", str(configured(root)), "--address", address)

    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1


def test_a_journal_of_another_release_is_told_in_one_line(root: Path) -> None:
    (root / "state").mkdir()
    with contextlib.closing(sqlite3.connect(root / "state" / "journal.sqlite")) as database:
        database.execute("PRAGMA user_version = 99")
    refused = run_daemon("serve", "--config", str(configured(root)))

    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "has format 99" in refused.stderr


LAUNCHER = """
import asyncio, os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
import grpc
from fakes.launcher import FakeLauncher, serving

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    socket = Path(sys.argv[sys.argv.index("--socket") + 1])
    # Every start fails for now: the run waits for its next try.
    busy = grpc.StatusCode.RESOURCE_EXHAUSTED
    async with serving(FakeLauncher(pid=os.getpid(), refuse_start=busy), socket):
        await stop.wait()
        Path({gone!r}).touch()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["input ends", "sigterm", "another daemon had started it"])
def test_a_private_daemon_stops_its_runs_and_its_launcher_before_it_ends(
    root: Path, how: str
) -> None:
    gone = root / "gone"
    script = root / "launcher.py"
    tests = str(Path(fakes.launcher.__file__).parents[1])
    script.write_text(LAUNCHER.format(path=[tests], gone=str(gone)))
    python = root / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    python.chmod(0o755)
    config = configured(root, start=True, python=f'"{python}"')
    if how == "another daemon had started it":
        with daemon_process(config, "--private") as daemon, client(root) as control:
            linked(control)
            daemon.process.kill()
            daemon.process.wait(DEADLINE_S)
    with daemon_process(config, "--private") as daemon, client(root) as control:
        run = submit(control)
        linked(control)
        assert daemon.process.stdin is not None
        if how == "sigterm":
            code = daemon.terminate()
        else:
            daemon.process.stdin.close()
            code = daemon.process.wait(DEADLINE_S)

    assert code == 0
    assert gone.exists()
    with contextlib.closing(sqlite3.connect(root / "state" / "journal.sqlite")) as database:
        query = "SELECT kind FROM events WHERE run = ? ORDER BY sequence"
        kinds = [kind for (kind,) in database.execute(query, (run,))]
    assert "stop_requested" in kinds


def linked(control: control_pb2_grpc.ControlServiceStub) -> None:
    end = time.monotonic() + DEADLINE_S
    while not control.GetDaemon(control_pb2.GetDaemonRequest()).launcher_pid:
        assert time.monotonic() < end
        time.sleep(0.01)
