"""What is left of a host's folder, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.folders import LINES, short_folder


def test_a_failed_test_tells_its_logs_and_leaves_no_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[Path] = []
    lines = [f"line {number}" for number in range(LINES + 1)]

    def fails() -> None:
        with short_folder("tq-") as folder:
            made.append(folder)
            (folder / "n0").mkdir()
            (folder / "n0" / "daemon.log").write_text("\n".join(lines))
            (folder / "empty.log").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    (folder,) = made
    assert not folder.exists()
    told = capsys.readouterr().out.splitlines()
    assert told == [f"--- {folder}/n0/daemon.log", *lines[1:]]


def test_one_that_passes_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with short_folder("tq-") as folder:
        (folder / "daemon.log").write_text("fine")
    assert not folder.exists()
    assert not capsys.readouterr().out
