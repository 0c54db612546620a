"""The launcher's own log: bounded, and never the end of a launcher."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from trainerd.actors.launcher.logging import BoundedStderr


def test_a_log_file_begins_anew_when_it_is_full_and_the_one_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "launcher.log"
    with path.open("a") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log = BoundedStderr(limit_bytes=100)
        for line in range(50):
            log.write(f"line {line:02}\n")
            assert path.stat().st_size <= 108
    lines = (tmp_path / "launcher.log.1").read_text() + path.read_text()
    assert lines.splitlines()[-1] == "line 49"
    assert lines.splitlines() == [f"line {line}" for line in range(50)][-len(lines.splitlines()) :]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["launcher.log", "launcher.log.1"]


def test_a_file_that_is_not_appended_to_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truncated, it would have a hole."""
    with (tmp_path / "out").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log = BoundedStderr(limit_bytes=10)
        log.write("x" * 50)
        log.write("y")
    assert (tmp_path / "out").stat().st_size == 51


def test_a_reader_that_has_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    BoundedStderr().write("nobody hears this\n")
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_without_a_place_for_the_copy_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "launcher.log"
    (tmp_path / "launcher.log.1").mkdir()
    with path.open("a") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log = BoundedStderr(limit_bytes=10)
        log.write("x" * 50)
        log.write("y")
    assert path.read_text() == "x" * 50 + "y"
