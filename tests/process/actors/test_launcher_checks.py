"""Program checks through the launcher: every problem, and nothing claimed that is not known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.launcher_process import LauncherProcess, launcher, wait_until
from fakes.trainer_scripts import SLEEPER
from trainerd.v1 import control_pb2, launcher_pb2, run_pb2

PROGRAMS = Path(__file__).resolve().parents[2] / "fakes"


def spec_of(function: str = "build", **train: int) -> run_pb2.RunSpec:
    spec = run_pb2.RunSpec(name="r", entry=f"toy_program:{function}")
    spec.trainer.path.append(str(PROGRAMS))
    spec.train.MergeFrom(run_pb2.TrainSpec(**({"steps": 5, "global_batch": 8} | train)))
    return spec


def check(host: LauncherProcess, spec: run_pb2.RunSpec) -> list[control_pb2.Problem]:
    request = launcher_pb2.CheckProgramRequest(spec=spec)
    return list(host.stub.CheckProgram(request, timeout=60).problems)


def run_checker(spec: run_pb2.RunSpec) -> list[control_pb2.Problem]:
    done = subprocess.run(
        [sys.executable, "-m", "trainerd.actors.checker"],
        input=spec.SerializeToString(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    return list(launcher_pb2.CheckProgramResponse.FromString(done.stdout).problems)


def test_a_sound_program_has_no_problem_and_leaves_nothing_behind():
    with launcher(SLEEPER) as host:
        spec = spec_of("prints", microbatch=4)
        spec.checkpoint.directory = str(host.root / "not" / "yet")
        before = sorted(os.listdir(host.state))
        assert check(host, spec) == []
        assert not (host.root / "not").exists()
        assert sorted(os.listdir(host.state)) == before


def test_every_problem_of_the_places_is_listed_at_once():
    with launcher(SLEEPER) as host:
        (host.root / "file").write_text("x")
        spec = spec_of()
        spec.trainer.python = "/nowhere/python"
        spec.trainer.workdir = "/nowhere"
        spec.trainer.path.append("/nowhere/else")
        spec.trainer.env["LD_PRELOAD"] = "x"
        spec.checkpoint.directory = str(host.root / "file" / "under")
        spec.checkpoint.fallback_directory = str(host.root / "file")
        problems = check(host, spec)
        assert [p.field for p in problems] == [
            "trainer.env.LD_PRELOAD",
            "trainer.python",
            "trainer.path",
            "trainer.workdir",
            "checkpoint.directory",
            "checkpoint.fallback_directory",
        ]
        assert all(p.message and p.suggestion for p in problems)


def test_a_program_that_ends_its_process_is_a_problem():
    with launcher(SLEEPER) as host:
        (problem,) = check(host, spec_of("dies"))
        assert problem.field == "entry"
        assert "exit code 9" in problem.message


def test_a_check_that_does_not_end_claims_nothing_and_is_killed():
    with launcher(SLEEPER, "--check-timeout-s", "1") as host:
        assert check(host, spec_of("never_returns")) == []
        assert "program_check_timed_out" in host.errors.read_text()
        children = Path(f"/proc/{host.pid}/task/{host.pid}/children")
        wait_until(lambda: not children.read_text().split(), "the checker's end")


@pytest.mark.parametrize(
    ("function", "message", "detail"),
    [
        ("raises", "toy_program:raises raised ValueError: no such width", "in raises"),
        ("exits", "the program raised SystemExit: 3", "in exits"),
        ("loses_a_key", "KeyError: 'nope'", "toy_program.py"),
        ("nothing", 'module "toy_program" has no function "nothing"', ""),
    ],
)
def test_the_users_mistake_comes_with_the_users_traceback(function, message, detail):
    (problem,) = run_checker(spec_of(function))
    assert (problem.field, problem.message) == ("entry", message)
    assert detail in problem.detail
    assert "trainerd/actors" not in problem.detail


def test_numbers_and_program_are_both_checked():
    problems = run_checker(spec_of("raises", microbatch=3))
    assert [p.field for p in problems] == ["entry", "train.microbatch"]


def test_a_source_shorter_than_a_batch_is_a_problem_of_the_batch():
    (problem,) = run_checker(spec_of(global_batch=65))
    assert problem.field == "train.global_batch"
    assert "64 examples" in problem.message


def test_an_argument_the_function_does_not_know_is_named():
    spec = spec_of()
    spec.args["wdith"].int_value = 3
    (problem,) = run_checker(spec)
    assert problem.field == "args"
    assert "wdith" in problem.message
    assert "width" in problem.suggestion
