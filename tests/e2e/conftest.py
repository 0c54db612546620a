from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.folders import last_words
from e2e.host import Host, host
from e2e.machine import Machine, machine
from e2e.services import built, installed, long_run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the logs of its hosts, which may live on and be removed later."""
    report = yield
    if report.failed:
        for each in item.funcargs.values():
            if isinstance(each, Host | Cluster):
                report.sections.append((f"logs in {each.folder}", last_words(each.folder)))
    return report


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one host of this session has compiled, every later one finds; the first compiles it."""
    Host.compiled = tmp_path_factory.mktemp("compiled")
    yield
    Host.compiled = None


@pytest.fixture(name="host")
def _host() -> Iterator[Host]:
    """A host of the test's own, whose starts are cold: a standby costs as much as a trainer."""
    with host(standby=False) as made:
        yield made


@pytest.fixture(name="shared", scope="module")
def _shared() -> Iterator[Host]:
    """One host for tests of a module that leave it as they found it; its starts are cold."""
    with host(standby=False) as made:
        yield made


@pytest.fixture(name="wheel", scope="session")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(name="here", scope="module")
def _here(wheel: Path) -> Iterator[Machine]:
    """A machine on which the services have been installed; each test leaves them running."""
    with machine() as made:
        installed(made, wheel, "--enable")
        yield made


@pytest.fixture(name="run")
def _run(here: Machine) -> str:
    """A run that trains."""
    return long_run(here)
