"""For every test: a CPU that looks like eight devices, no leaks, and in CI no skips."""

from __future__ import annotations

import os

# Read once, by the first import of jax anywhere.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()

from collections.abc import Generator, Iterator
from typing import Any

import pytest

import leaks

MOST_WORKERS = 4
NO_SKIP = os.environ.get("TRAINERD_NO_SKIP") == "1"

leaks.mark_children()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a process, thread, file, server or task of ours behind."""
    earlier = leaks.belongings()
    with leaks.asyncio_complaints() as complaints:
        yield
        left = leaks.left_behind(earlier)
    if left or complaints:
        pytest.fail("left behind by this test:\n  " + "\n  ".join([*left, *complaints]))


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Let JAX keep what it compiles; the same program under test again is then loaded.

    Returns what a child's environment needs to find it, and to write nothing there.

    Not for a test that serialises an executable: on CPUs one that was loaded cannot be serialised
    again (it then lacks functions). The directory is this process's own: JAX writes into it without
    care for other readers.
    """
    # Most tests never import jax.
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    settings: dict[str, Any] = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    # JAX decides at its first compilation whether there is a cache.
    compilation_cache.reset_cache()
    yield {
        "JAX_COMPILATION_CACHE_DIR": settings["jax_compilation_cache_dir"],
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9",
    }
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many tests `--numprocesses=auto` runs at once: a test may be a whole host that trains.

    One more than there are cores: such a test waits as often as it computes.
    """
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)) + 1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where nothing may be skipped, a skipped test is a failed one; an expected failure is not."""
    report = yield
    if NO_SKIP and report.skipped and "wasxfail" not in vars(report):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    report = yield
    if NO_SKIP and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {reason(report.longrepr)}"
    return report


def reason(longrepr: object) -> str:
    """Return why a test was skipped, of whatever form pytest keeps it in."""
    match longrepr:
        case (_, _, str(why)):
            return why.removeprefix("Skipped: ")
        case _:
            return str(longrepr)
