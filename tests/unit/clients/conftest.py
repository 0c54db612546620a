"""A served fake of the control service, and `trainerctl` called in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainerd.clients.main import main
from unit.clients.ended import Ended
from unit.clients.fake_control import RUN_FILE, FakeControl, serving


@pytest.fixture
def fake() -> Iterator[FakeControl]:
    with serving(FakeControl()) as served:
        yield served


@pytest.fixture
def ctl(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs `trainerctl`; without an address there is nobody to answer."""
    monkeypatch.setenv("TRAINERD_ADDRESS", "unix:/nonexistent/trainerd.sock")

    def call(*arguments: str, **options: Any) -> Ended:
        capfd.readouterr()
        code = main(list(arguments), **options)
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def run_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a run file."""

    def write(text: str = RUN_FILE) -> Path:
        file = tmp_path / "run.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write
