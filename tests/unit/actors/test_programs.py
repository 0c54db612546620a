"""The operator's allow-list: what a run may use of a host, whatever a path looks like."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from trainerd.actors.launcher.config import ConfigError, load
from trainerd.actors.launcher.programs import Programs
from trainerd.actors.launcher.programs_config import ProgramsSection
from trainerd.v1 import control_pb2, run_pb2


def spec(root: Path, **trainer: object) -> run_pb2.RunSpec:
    made = run_pb2.RunSpec(name="r", entry="jobs.mine:build")
    for field, value in trainer.items():
        if isinstance(value, dict):
            made.trainer.env.update(value)
        elif isinstance(value, list):
            made.trainer.path.extend(map(str, value))
        else:
            setattr(made.trainer, field, str(value))
    return made


def told(programs: Programs, wanted: run_pb2.RunSpec) -> list[str]:
    return [problem.field for problem in programs.problems(programs.resolved(wanted))]


def environment(at: Path) -> Path:
    """A virtual environment as far as its paths go: its interpreter is a link to ours."""
    (at / "bin").mkdir(parents=True)
    (at / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    return at / "bin" / "python"


def test_without_a_list_all_that_the_user_may_do_is_allowed(tmp_path: Path) -> None:
    programs = Programs(ProgramsSection(), tmp_path)
    link = tmp_path / "link"
    link.symlink_to("/usr")
    wanted = spec(
        tmp_path, python=environment(tmp_path / "v"), path=[link], workdir=link, env={"A": "b"}
    )
    wanted.checkpoint.directory = str(tmp_path / "anywhere")

    assert programs.problems(programs.resolved(wanted)) == []
    # And a path is used as it was given.
    assert programs.resolved(wanted) == wanted


def test_lists_that_are_empty_allow_nothing_but_the_launchers_own(tmp_path: Path) -> None:
    nothing = ProgramsSection(pythons=(), paths=(), entries=(), env=(), directories=())
    programs = Programs(nothing, tmp_path / "state")
    wanted = spec(
        tmp_path, python="/usr/bin/python3", path=["/usr"], workdir="/usr", env={"A": "b"}
    )
    wanted.checkpoint.directory, wanted.checkpoint.fallback_directory = "/data", "/more"

    assert set(told(programs, wanted)) == {
        "entry",
        "trainer.python",
        "trainer.path",
        "trainer.workdir",
        "trainer.env.A",
        "checkpoint.directory",
        "checkpoint.fallback_directory",
    }
    own = run_pb2.RunSpec(entry="m:f")
    own.checkpoint.directory = str(tmp_path / "state" / "runs")
    assert told(programs, own) == ["entry"]


def test_an_interpreter_is_known_by_its_own_directory_not_by_what_it_links_to(
    tmp_path: Path,
) -> None:
    good, bad = environment(tmp_path / "good"), environment(tmp_path / "bad")
    programs = Programs(ProgramsSection(pythons=(str(good),)), tmp_path)

    assert told(programs, spec(tmp_path, python=good)) == []
    # Both links lead to the same file; the packages are those of the environment around the link.
    assert told(programs, spec(tmp_path, python=bad)) == ["trainer.python"]
    (tmp_path / "way").symlink_to(tmp_path / "good")
    assert told(programs, spec(tmp_path, python=tmp_path / "way" / "bin" / "python")) == []
    assert told(programs, spec(tmp_path, python=good.parent / ".." / ".." / "bad/bin/python")) == [
        "trainer.python"
    ]
    below = Programs(ProgramsSection(pythons=(f"{tmp_path}/good/*",)), tmp_path)
    assert told(below, spec(tmp_path, python=good)) == []
    assert told(below, spec(tmp_path, python=bad)) == ["trainer.python"]
    # The launcher's own, named or not.
    assert told(programs, spec(tmp_path, python=sys.executable)) == []
    assert told(programs, spec(tmp_path)) == []


def test_a_path_counts_where_it_really_leads(tmp_path: Path) -> None:
    jobs, secret = tmp_path / "jobs", tmp_path / "jobs-secret"
    (jobs / "mine").mkdir(parents=True)
    secret.mkdir()
    (jobs / "out").symlink_to(secret)
    (tmp_path / "in").symlink_to(jobs / "mine")
    programs = Programs(ProgramsSection(paths=(str(jobs),)), tmp_path)

    good = spec(tmp_path, path=[jobs, jobs / "mine", tmp_path / "in"], workdir=jobs / "mine")
    assert told(programs, good) == []
    for wrong in (secret, jobs / "out", jobs / ".." / "jobs-secret", tmp_path):
        assert told(programs, spec(tmp_path, path=[wrong])) == ["trainer.path"]
        assert told(programs, spec(tmp_path, workdir=wrong)) == ["trainer.workdir"]
    # What is used is what was compared.
    assert list(programs.resolved(good).trainer.path) == [
        str(jobs),
        str(jobs / "mine"),
        str(jobs / "mine"),
    ]


def test_a_link_that_is_turned_after_the_check_is_not_followed(tmp_path: Path) -> None:
    jobs, evil = tmp_path / "jobs", tmp_path / "evil"
    (jobs / "a").mkdir(parents=True)
    evil.mkdir()
    link = tmp_path / "current"
    link.symlink_to(jobs / "a")
    programs = Programs(ProgramsSection(paths=(str(jobs),)), tmp_path)
    checked = programs.resolved(spec(tmp_path, path=[link]))
    assert programs.problems(checked) == []

    link.unlink()
    link.symlink_to(evil)
    assert list(checked.trainer.path) == [str(jobs / "a")]
    assert programs.unchanged(checked)
    # A directory of the resolved path itself becomes a link: seen right before exec.
    (jobs / "a").rmdir()
    (jobs / "a").symlink_to(evil)
    assert not programs.unchanged(checked)


@pytest.mark.parametrize(
    ("allowed", "module", "good"),
    [
        ("jobs.*", "jobs", True),
        ("jobs.*", "jobs.deep.er", True),
        ("jobs.*", "jobsx", False),
        ("jobs", "jobs.deep", False),
        ("jobs.mine", "jobs.mine", True),
    ],
)
def test_entries_are_modules_or_packages(
    tmp_path: Path, allowed: str, module: str, good: bool
) -> None:
    programs = Programs(ProgramsSection(entries=(allowed,)), tmp_path)
    wanted = run_pb2.RunSpec(entry=f"{module}:build")
    assert told(programs, wanted) == ([] if good else ["entry"])


def test_variables_are_names_or_beginnings_of_names(tmp_path: Path) -> None:
    programs = Programs(ProgramsSection(env=("HF_HOME", "WANDB_*", "LD_*")), tmp_path)
    wanted = spec(
        tmp_path, env={"HF_HOME": "x", "WANDB_MODE": "y", "HF_HOMES": "z", "LD_PRELOAD": "/evil.so"}
    )
    # What changes the code that is loaded cannot be allowed.
    assert sorted(told(programs, wanted)) == ["trainer.env.HF_HOMES", "trainer.env.LD_PRELOAD"]


def test_a_refusal_says_what_is_allowed(tmp_path: Path) -> None:
    programs = Programs(ProgramsSection(entries=("jobs.*", "more")), tmp_path)
    problem: control_pb2.Problem
    (problem,) = programs.problems(run_pb2.RunSpec(entry="os:system"))
    assert problem.message == "the module os is not allowed on this host"
    assert "programs.entries of the launcher: jobs.*, more" in problem.suggestion


def test_parameters_are_exported_below_the_allowed_directories(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "away").symlink_to("/tmp")
    programs = Programs(ProgramsSection(directories=(str(tmp_path / "out"),)), tmp_path / "state")
    assert programs.export_problems(str(tmp_path / "out" / "new" / "deep")) == []
    for wrong in (tmp_path / "outside", tmp_path / "out" / "away" / "x", Path("/etc")):
        assert [each.field for each in programs.export_problems(str(wrong))] == ["directory"]


def test_lists_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "launcher.toml"
    path.write_text(
        '[programs]\npythons = ["python3", "/ok/*"]\npaths = ["rel", 3]\n'
        'entries = ["a b", "ok.*"]\nenv = ["*", "A=B", "OK_*"]\ndirectories = ["/a*b"]\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.problems == ["programs.paths must be a list of strings, got ['rel', 3]"]
    path.write_text(path.read_text().replace(", 3", ""))
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert [each.partition(" ")[0] for each in caught.value.problems] == [
        "programs.pythons",
        "programs.paths",
        "programs.directories",
        "programs.entries",
        "programs.env",
        "programs.env",
    ]
