from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes.launcher_process import LauncherProcess


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one launcher's trainers have compiled, those of every later one find."""
    LauncherProcess.compiled = tmp_path_factory.mktemp("compiled")
    yield
    LauncherProcess.compiled = None
