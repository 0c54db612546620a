"""What memory there is left, on the host and in the control groups around a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainerd.actors.host_memory import available_bytes


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable:    1000 kB\n")
    return path


def group(directory: Path, *, limit: str, used: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.current").write_text(f"{used}\n")


def test_without_control_groups_the_host_counts(memory: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert available_bytes(memory=memory, own_group=missing, groups=missing) == 1_024_000


def test_the_tightest_enclosing_group_counts(memory: Path, tmp_path: Path) -> None:
    own, groups = tmp_path / "cgroup", tmp_path / "groups"
    own.write_text("1:cpu:/old\n0::/unit/trainer\n")
    group(groups / "unit", limit="5000", used=1000)
    group(groups / "unit/trainer", limit="max", used=700)
    assert available_bytes(memory=memory, own_group=own, groups=groups) == 4000


def test_a_group_beyond_its_limit_has_nothing_left(memory: Path, tmp_path: Path) -> None:
    own, groups = tmp_path / "cgroup", tmp_path / "groups"
    own.write_text("0::/\n")
    group(groups, limit="10", used=20)
    assert available_bytes(memory=memory, own_group=own, groups=groups) == 0


def test_where_the_kernel_does_not_tell_there_is_nothing(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert available_bytes(memory=missing, own_group=missing, groups=missing) == 0


def test_this_host_has_some() -> None:
    assert available_bytes() > 0
