"""`make check` on alert rules: what is wrong is found, and a missing tool is no silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import buf
import rules


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for tool, package in rules.PACKAGES.items():
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on PATH (Debian: apt-get install {package})")
    return Path(shutil.copytree(rules.PLACE, tmp_path / "prometheus"))


def test_without_its_tools_it_is_skipped_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert rules.main() == buf.SKIPPED
    told = capsys.readouterr().out
    assert "promtool (Debian: prometheus)" in told
    assert "amtool (Debian: prometheus-alertmanager)" in told


def test_the_rules_of_this_project_pass(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rules.main(place) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("alerts.yml", "trainerd_host_up == 0", "trainerd_host_up == 1"),
        ("recording.yml", "record: trainerd:run_live:max", "record: trainerd:run_lives:max"),
        ("alertmanager.yml", "receiver: team", "receiver: nobody"),
    ],
)
def test_what_is_wrong_is_found(place: Path, name: str, before: str, after: str) -> None:
    text = (place / name).read_text()
    assert before in text
    (place / name).write_text(text.replace(before, after, 1))
    assert rules.main(place) == 1
