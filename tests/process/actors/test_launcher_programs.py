"""The operator's allow-list at submit and at start, and a poisoned environment above it all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.launcher_process import LauncherProcess, launcher
from fakes.trainer_scripts import SHOWS_ITSELF, SLEEPER
from trainerd.v1 import launcher_pb2

POISON = {
    "GCONV_PATH": "/evil",
    "LD_LIBRARY_PATH": "/evil",
    "PYTHONINSPECT": "",
    "PYTHONWARNINGS": "ignore",
    "BASH_ENV": "/evil.sh",
    "XLA_FLAGS": "--xla_evil=1",
    "JAX_ENABLE_X64": "1",
    "CUDA_VISIBLE_DEVICES": "7",
    "SECRET_TOKEN": "of-the-launcher",
    "PATH": f"/evil:{os.environ['PATH']}",
    "HOME": "/evil",
    "TMPDIR": "/tmp",
}


@contextlib.contextmanager
def strict(tmp_path: Path, script: str, text: str) -> Iterator[LauncherProcess]:
    config = tmp_path / "launcher.toml"
    config.write_text(text)
    with launcher(script, "--config", str(config)) as host:
        yield host


def test_a_poisoned_environment_of_the_launcher_does_not_reach_a_trainer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)
    with launcher(SHOWS_ITSELF) as host:
        watch = host.watch()
        host.start_trainer()
        watch.wait_exits(1)
        seen = json.loads(host.log())["environment"]

    assert sorted(seen) == sorted(
        [
            *("PATH", "HOME", "USER", "LOGNAME", "LANG", "JAX_PLATFORMS", "XLA_FLAGS"),
            *("PYTHONUNBUFFERED", "PYTHONFAULTHANDLER", "PYTHONNOUSERSITE", "PYTHONSAFEPATH"),
        ]
    )
    assert "evil" not in json.dumps(seen)


def test_what_is_not_allowed_is_refused_at_submit_and_again_at_start(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    text = (
        f'[programs]\npythons = []\npaths = ["{jobs}"]\nentries = ["jobs.*"]\nenv = ["MINE"]\n'
        "directories = []\n"
    )
    fields = [
        *("trainer.env.OTHER", "entry", "trainer.python", "trainer.path"),
        "checkpoint.directory",
    ]
    with strict(tmp_path, SLEEPER, text) as host:
        assignment = host.assignment()
        spec = assignment.spec
        spec.trainer.python = "/usr/bin/env"
        spec.trainer.path.append("/usr")
        spec.trainer.env.update({"OTHER": "x", "MINE": "y"})
        spec.checkpoint.directory = str(tmp_path / "elsewhere" / "deep")
        before = tmp_path.stat().st_mtime_ns
        request = launcher_pb2.CheckProgramRequest(spec=spec)
        problems = host.stub.CheckProgram(request, timeout=60).problems
        assert sorted(p.field for p in problems) == sorted(fields)
        with pytest.raises(grpc.RpcError) as caught:
            host.start_trainer(assignment=assignment)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        for field in fields:
            assert field in caught.value.details()
        # Nothing was tried there.
        assert tmp_path.stat().st_mtime_ns == before

        good = host.assignment()
        good.spec.entry = "jobs.mine:build"
        good.spec.trainer.env["MINE"] = "y"
        assert host.start_trainer(assignment=good)


def test_a_trainer_is_started_with_the_paths_that_were_compared(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    (jobs / "v1").mkdir(parents=True)
    (tmp_path / "current").symlink_to(jobs / "v1")
    with strict(tmp_path, SHOWS_ITSELF, f'[programs]\npaths = ["{jobs}"]\n') as host:
        watch = host.watch()
        assignment = host.assignment()
        assignment.spec.trainer.path.append(str(tmp_path / "current"))
        assignment.spec.trainer.workdir = str(tmp_path / "current")
        host.start_trainer(assignment=assignment)
        watch.wait_exits(1)
        shown = json.loads(host.log())

    told = launcher_pb2.Assignment.FromString(bytes.fromhex(shown["assignment"]))
    assert list(told.spec.trainer.path) == [str(jobs / "v1")]
    assert shown["directory"] == str(jobs / "v1")
