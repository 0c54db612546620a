"""A trainer that is forked from a standby is the process that a new one would have been."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.daemon import FakeDaemon, fake_daemon
from fakes.launcher_process import LauncherProcess, launcher, process_is_alive, wait_until
from trainerd.v1 import launcher_pb2

pytestmark = pytest.mark.e2e

FAKES = Path(__file__).resolve().parents[2] / "fakes"
START_S = 150.0
MIB = 1 << 20


@contextlib.contextmanager
def stage(*flags: str) -> Iterator[tuple[LauncherProcess, FakeDaemon]]:
    with fake_daemon() as daemon, launcher("", "--standby-after-s", "0", *flags) as host:
        yield host, daemon


def assignment(
    host: LauncherProcess,
    daemon: FakeDaemon,
    incarnation: int,
    *,
    entry: str = "shows_process:build",
    args: dict[str, str] | None = None,
    path: Path = FAKES,
) -> launcher_pb2.Assignment:
    told = host.assignment("r-1", incarnation)
    told.attach_address, told.token = daemon.address, daemon.token
    told.spec.entry = entry
    for name, value in (args or {}).items():
        told.spec.args[name].string_value = value
    told.spec.trainer.path.append(str(path))
    told.spec.train.steps, told.spec.train.global_batch = 12, 8
    told.spec.train.microbatch = 4
    return told


def start(host: LauncherProcess, told: launcher_pb2.Assignment) -> tuple[int, bool]:
    request = launcher_pb2.StartTrainerRequest(assignment=told)
    started = host.stub.StartTrainer(request, timeout=START_S)
    return started.pid, started.warm


def said(host: LauncherProcess, event: str) -> list[str]:
    told = f'"event": "{event}"'
    return [line for line in host.errors.read_text().splitlines() if told in line]


def standby(host: LauncherProcess, count: int = 1) -> int:
    """The process id of the `count`-th standby, once it is ready."""
    wait_until(lambda: len(said(host, "standby_ready")) >= count, f"standby {count}", START_S)
    found = re.search(r'"pid": (\d+)', said(host, "standby_ready")[count - 1])
    assert found
    return int(found[1])


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """What a cold trainer and two warm ones found."""
    folder = tmp_path_factory.mktemp("seen")
    with stage() as (host, daemon):
        watch = host.watch()
        came = []
        for incarnation in (1, 2, 3):
            told = assignment(host, daemon, incarnation, args={"folder": str(folder)})
            pid, warm = start(host, told)
            assert warm == (incarnation > 1), host.errors.read_text()
            assert start(host, told) == (pid, warm)
            watch.wait_exits(incarnation)
            came.append(json.loads((folder / f"{pid}.json").read_text()))
            came[-1]["launcher"] = host.pid
            standby(host)
        yield came


def test_a_warm_trainer_finds_what_a_cold_one_finds(seen):
    cold, *others = (process["same"] for process in seen)
    for warm in others:
        limit = warm["at import"]["environment"].pop("OPENBLAS_NUM_THREADS", "1")
        assert limit == "1"
        assert {k: (cold[k], warm[k]) for k in cold if cold[k] != warm[k]} == {}


def test_a_cold_trainer_is_what_it_should_be(seen):
    cold, launcher_pid = seen[0]["same"], seen[0]["launcher"]
    assert cold["parent"] == launcher_pid
    assert cold["group leader"]
    assert cold["death signal"] == signal.SIGKILL
    assert [number for number, _, _ in cold["descriptors"][:3]] == [0, 1, 2]
    kept = cold["descriptors"][3:]
    assert any("/locks/devices-" in target for _, target, _ in kept)
    for _, target, inheritable in kept:
        assert "/locks/" in target or target.endswith("/r-1"), target
        assert not inheritable
    assert "OPENBLAS_NUM_THREADS" not in cold["environment"]
    assert cold["BLAS threads"] == [len(os.sched_getaffinity(0))]


def test_siblings_draw_different_random_numbers(seen):
    for generator in ("random", "numpy"):
        assert len({process["own"][generator] for process in seen}) == 3


def test_the_process_list_shows_whose_trainer_it_is(seen):
    for incarnation in (2, 3):
        assert seen[incarnation - 1]["title"][1:] == [
            *("-m", "trainerd.actors.trainer", "--run", "r-1", "--incarnation", str(incarnation))
        ]


def test_a_standby_is_small_has_one_thread_and_ends_with_its_launcher():
    with stage() as (host, daemon):
        start(host, assignment(host, daemon, 1, entry="trainerd.actors.examples.stdlib_lm:build"))
        pid = standby(host)
        status = Path(f"/proc/{pid}/status").read_text()
        resident_kib = re.search(r"VmRSS:\s+(\d+)", status)
        assert resident_kib
        assert int(resident_kib[1]) * 1024 <= 250 * MIB
        assert "Threads:\t1\n" in status
        host.sigkill()
        wait_until(lambda: not process_is_alive(pid), "the standby's end")


def test_a_launcher_that_is_told_to_end_ends_its_standby():
    with stage() as (host, daemon):
        start(host, assignment(host, daemon, 1, args={"folder": str(host.root)}))
        pid = standby(host)
        assert host.terminate() == 0
        assert not process_is_alive(pid)


@pytest.mark.parametrize("changed", ["program.py", "part.py", "settings.json"])
def test_a_changed_file_makes_the_next_start_cold_and_the_standby_new(tmp_path, changed):
    (tmp_path / "program.py").write_text(
        "import json, os, pathlib, part\n"
        "SETTINGS = json.load(open(pathlib.Path(__file__).with_name('settings.json')))\n"
        "def build():\n"
        "    print('settings', SETTINGS, part.NUMBER, flush=True)\n"
        "    os._exit(0)\n"
    )
    (tmp_path / "part.py").write_text("NUMBER = 1\n")
    (tmp_path / "settings.json").write_text("1")
    with stage() as (host, daemon):
        watch = host.watch()

        def runs(incarnation: int) -> bool:
            told = assignment(host, daemon, incarnation, entry="program:build", path=tmp_path)
            _, warm = start(host, told)
            watch.wait_exits(incarnation)
            return warm

        runs(1)
        old = standby(host)
        path = tmp_path / changed
        path.write_text(path.read_text().replace("1", "2").replace("settings',", "settings:',"))
        assert runs(2) is False
        log = host.log(incarnation=2)
        assert "settings" in log
        assert log != host.log(incarnation=1)
        assert standby(host, 2) != old
        assert not process_is_alive(old)
        assert runs(3) is True
        assert host.log(incarnation=3) == log


def test_another_environment_is_started_cold(tmp_path):
    with stage() as (host, daemon):
        watch = host.watch()
        told = assignment(host, daemon, 1, args={"folder": str(tmp_path)})
        start(host, told)
        standby(host)
        watch.wait_exits(1)
        told.incarnation = 2
        told.spec.trainer.env["COLOUR"] = "blue"
        pid, warm = start(host, told)
        assert not warm
        watch.wait_exits(2)
        seen = json.loads((tmp_path / f"{pid}.json").read_text())["same"]
        assert seen["at import"]["environment"]["COLOUR"] == "blue"


def test_a_program_that_touches_a_device_when_imported_is_named_once_and_starts_cold(tmp_path):
    (tmp_path / "greedy.py").write_text(
        "import os, jax\nDEVICES = jax.devices()\ndef build():\n    os._exit(0)\n"
    )
    with stage() as (host, daemon):
        watch = host.watch()
        for incarnation in (1, 2):
            told = assignment(host, daemon, incarnation, entry="greedy:build", path=tmp_path)
            assert not start(host, told)[1]
            watch.wait_exits(incarnation)
            wait_until(lambda: said(host, "standby_unfit"), "the remark", START_S)
        logs = host.log(incarnation=1) + host.log(incarnation=2)
        assert logs.count("start cold, from now on: importing greedy: it computes with JAX") == 1
        assert len(said(host, "standby_unfit")) == 1
        assert not said(host, "standby_ready")


def test_a_standby_that_was_asked_for_forks_the_first_trainer(tmp_path):
    # Nothing but the question begins it.
    with stage("--standby-after-s", "600") as (host, daemon):
        watch = host.watch()
        told = assignment(host, daemon, 1, args={"folder": str(tmp_path)})
        request = launcher_pb2.PrepareStandbyRequest(run=told.run, spec=told.spec)
        assert host.stub.PrepareStandby(request, timeout=START_S).problem == ""
        assert start(host, told)[1]
        watch.wait_exits(1)


def test_a_stopped_standby_costs_a_cold_start_and_no_second_trainer(tmp_path):
    with stage() as (host, daemon):
        watch = host.watch()
        start(host, assignment(host, daemon, 1, args={"folder": str(tmp_path)}))
        pid = standby(host)
        watch.wait_exits(1)
        os.kill(pid, signal.SIGSTOP)
        _, warm = start(host, assignment(host, daemon, 2, args={"folder": str(tmp_path)}))
        assert not warm
        watch.wait_exits(2)
        assert not process_is_alive(pid)
        assert len(list(tmp_path.glob("*.json"))) == 2


def test_without_a_standby_every_start_is_cold(tmp_path):
    with stage("--no-standby") as (host, daemon):
        watch = host.watch()
        for incarnation in (1, 2):
            told = assignment(host, daemon, incarnation, args={"folder": str(tmp_path)})
            assert not start(host, told)[1]
            watch.wait_exits(incarnation)
        assert not said(host, "standby_ready")
