"""The scripts that make `.venv` and run the checks, as far as they need no package index."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import buf
import checks
import environment
import installers

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "3.11.0 (one)"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a repository as the environment depends on, with a finished `.venv`."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "ops", tmp_path / "ops")
    site_packages = tmp_path / ".venv" / "site-packages"
    for name in ("jax-1.dist-info", "trainerd-1.dist-info"):
        (site_packages / name).mkdir(parents=True)
    environment.write_stamp(tmp_path, python=PYTHON, site_packages=site_packages)
    return tmp_path


def fit(clone: Path, python: str = PYTHON) -> bool:
    return environment.fit(clone, python=python, site_packages=clone / ".venv" / "site-packages")


def test_a_finished_environment_is_fit(clone: Path) -> None:
    assert fit(clone)


def test_a_package_of_the_users_own_does_no_harm(clone: Path) -> None:
    (clone / ".venv/site-packages/ipython-9.dist-info").mkdir()

    assert fit(clone)


def test_a_lost_package_makes_it_unfit(clone: Path) -> None:
    (clone / ".venv/site-packages/jax-1.dist-info").rmdir()

    assert not fit(clone)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"digest": "x"}'])
def test_a_half_made_environment_is_unfit(clone: Path, content: str) -> None:
    environment.stamp_file(clone).write_text(content)

    assert not fit(clone)


def test_another_interpreter_makes_it_unfit(clone: Path) -> None:
    assert not fit(clone, python="3.12.0 (two)")


def test_a_moved_repository_makes_it_unfit(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    moved = tmp_path_factory.mktemp("moved") / "clone"
    clone.rename(moved)

    assert not fit(moved)


def test_new_pins_or_dependencies_make_it_unfit_and_linter_settings_do_not(clone: Path) -> None:
    project = clone / "pyproject.toml"
    text = project.read_text()

    project.write_text(text.replace("line-length = 100", "line-length = 99"))
    assert project.read_text() != text
    assert fit(clone)

    project.write_text(text.replace('"rich>=14.0"', '"rich>=14.1"'))
    assert project.read_text() != text
    assert not fit(clone)

    project.write_text(text)
    with (clone / "ops/requirements/development.txt").open("a") as pins:
        pins.write("extra==1\n")
    assert not fit(clone)


def test_a_second_maker_waits_and_gives_up_at_its_deadline(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "LOCK_TIMEOUT_S", 0.0)
    holder = os.open(clone, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        with (
            pytest.raises(installers.EnvironmentFailure, match="another make held"),
            environment.sole_maker(clone),
        ):
            pass
    finally:
        os.close(holder)
    with environment.sole_maker(clone):
        pass


def run_shell(clone: Path, path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run environment.sh with nothing on the path but `path` and the shell's own tools."""
    (path / "dirname").symlink_to(shutil.which("dirname"))
    return subprocess.run(
        ["/bin/sh", clone / "ops/dev/environment.sh"],
        env={"PATH": str(path), "HOME": str(clone)} | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def program(directory: Path, name: str, script: str) -> None:
    """Put a shell script on a path."""
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def test_without_a_recent_python_it_says_what_to_install(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("path")
    program(path, "python3.13", "echo no such version >&2; exit 127")
    program(path, "python3", "exit 1")
    done = run_shell(clone, path)

    assert done.returncode == 1
    assert done.stderr.startswith("environment: no Python ≥ 3.11 found")
    assert "apt-get install python3 python3-venv" in done.stderr
    assert "no such version" not in done.stderr


def test_a_python_that_was_asked_for_and_is_not_there_is_named(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    done = run_shell(clone, tmp_path_factory.mktemp("path"), PYTHON="python9")

    assert done.returncode == 1
    assert done.stderr.startswith("environment: PYTHON=python9 is not a Python ≥ 3.11")


def test_the_first_python_that_can_make_environments_is_taken(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("path")
    program(path, "python3.13", "exit 127")
    program(path, "python3.12", 'case "$*" in *ensurepip*) exit 1;; esac; echo "took 3.12 $*"')
    program(path, "python3", 'case "$*" in -E*) echo "took 3 $*";; esac')
    assert run_shell(clone, path).stdout.startswith("took 3 -E -s")

    (path / "python3").unlink()
    (path / "dirname").unlink()
    assert "took 3.12 -E -s" in run_shell(clone, path).stdout


def test_a_python_without_pip_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "python", "exit 1")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(installers.EnvironmentFailure, match="apt-get install python3-venv"):
        installers.pip_command(tmp_path / "python")


def test_an_unreachable_index_is_said_in_one_line(tmp_path: Path) -> None:
    said = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError()'"
    program(tmp_path, "python", f'case "$*" in *install*) echo "{said}"; exit 1;; esac')

    with pytest.raises(installers.EnvironmentFailure, match="no package index could be") as caught:
        installers.install(
            tmp_path / "python",
            installer=tmp_path / "i.txt",
            requirements=tmp_path / "r.txt",
            project=tmp_path,
        )
    assert "\n" not in str(caught.value)


def test_pip_installs_where_uv_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(tmp_path, "python", f'echo "$*" >> {tmp_path}/calls')
    program(tmp_path, "uv", "echo 'error: no route'; exit 2")
    tool = installers.install(
        tmp_path / "python",
        installer=tmp_path / "i.txt",
        requirements=tmp_path / "r.txt",
        project=tmp_path,
    )

    assert tool == "pip"
    assert "uv could not install (error: no route); using pip" in capsys.readouterr().err
    calls = (tmp_path / "calls").read_text()
    assert f"-m pip install --quiet --require-hashes -r {tmp_path}/r.txt" in calls
    assert f"--no-deps --no-build-isolation -e {tmp_path}" in calls


CONFIG = """\
:env:.index-url='https://second.example/simple'
global.cert='/etc/ssl/corporate.pem'
global.extra-index-url='\\nfile:///a/simple\\nfile:///b/simple'
global.find-links='/wheels /more'
global.index-url='https://first.example/simple'
install.no-index='true'
"""


def test_uv_uses_the_index_that_pip_is_configured_for() -> None:
    variables = installers.uv_environment(CONFIG, {})

    assert variables["UV_DEFAULT_INDEX"] == "https://second.example/simple"
    assert variables["UV_INDEX"] == "file:///a/simple file:///b/simple"
    assert variables["UV_FIND_LINKS"] == "/wheels,/more"
    assert variables["UV_NO_INDEX"] == "true"
    assert variables["SSL_CERT_FILE"] == "/etc/ssl/corporate.pem"


def test_a_setting_of_uvs_own_wins_over_pips() -> None:
    variables = installers.uv_environment(CONFIG, {"UV_DEFAULT_INDEX": "https://mine.example"})

    assert variables["UV_DEFAULT_INDEX"] == "https://mine.example"


def test_nothing_inherited_can_send_the_packages_elsewhere() -> None:
    inherited = {"PIP_TARGET": "/x", "PYTHONPATH": "/y", "PIP_INDEX_URL": "https://m.example"}
    variables = installers.pip_environment(inherited)

    assert "PIP_TARGET" not in variables
    assert "PYTHONPATH" not in variables
    assert variables["PIP_INDEX_URL"] == "https://m.example"


@pytest.mark.parametrize(
    ("status", "in_ci", "word"),
    [
        (0, False, "ok"),
        (0, True, "ok"),
        (1, False, "failed"),
        (None, False, "failed"),
        (buf.SKIPPED, False, "skipped"),
        (buf.SKIPPED, True, "failed"),
    ],
)
def test_a_check_without_its_tool_is_skipped_except_in_ci(
    status: int | None, in_ci: bool, word: str
) -> None:
    check = checks.Check(name="protocol", command=("buf",))
    outcome = checks.Outcome(check=check, status=status, output="", duration_s=0.0)

    assert checks.verdict(outcome, in_ci=in_ci) == word


def test_a_check_that_cannot_start_fails_and_says_so() -> None:
    outcome = checks.run(checks.Check(name="absent", command=("/nonexistent/tool",)))

    assert outcome.status is None
    assert "/nonexistent/tool" in outcome.output


def test_buf_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "npm", "echo forged > buf.tgz")
    monkeypatch.setattr(buf, "KEPT", tmp_path / "tools" / "buf")

    with pytest.raises(buf.BufMissing, match="expected YGGJ"):
        buf.download(str(tmp_path / "npm"), *buf.PACKAGES["x86_64"])
    assert list((tmp_path / "tools").iterdir()) == []


def test_without_buf_and_npm_the_check_is_skipped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(buf, "KEPT", tmp_path / "buf")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert buf.main([]) == buf.SKIPPED
    assert "buf not found" in capsys.readouterr().out


def test_the_stamp_names_what_it_was_made_from(clone: Path) -> None:
    stamp = json.loads(environment.stamp_file(clone).read_text())

    assert stamp["root"] == str(clone)
    assert stamp["packages"] == ["jax-1.dist-info", "trainerd-1.dist-info"]
