from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.host import Host, host


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one host of this session has compiled, every later one finds; the first compiles it."""
    Host.compiled = tmp_path_factory.mktemp("compiled")
    yield
    Host.compiled = None


@pytest.fixture(name="host")
def _host() -> Iterator[Host]:
    with host() as made:
        yield made


@pytest.fixture(name="shared", scope="module")
def _shared() -> Iterator[Host]:
    """One host for tests of a module that leave it as they found it."""
    with host() as made:
        yield made
