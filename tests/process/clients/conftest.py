from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unit.clients.fake_control import RUN_FILE, FakeControl, serving


@pytest.fixture
def fake() -> Iterator[FakeControl]:
    with serving(FakeControl()) as served:
        yield served


@pytest.fixture
def run_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a run file."""

    def write(text: str = RUN_FILE) -> Path:
        file = tmp_path / "run.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write
