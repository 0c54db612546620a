"""The check of the systemd units sees a mistake and an open door."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import units

ANALYZE = shutil.which("systemd-analyze") or ""
pytestmark = pytest.mark.skipif(not ANALYZE, reason="systemd-analyze is not installed")


def altered(folder: Path, name: str, before: str, after: str) -> Path:
    """The shipped units, one of them with a change."""
    shipped = folder / "units"
    shutil.copytree(units.SHIPPED, shipped)
    text = (shipped / name).read_text()
    assert before in text
    (shipped / name).write_text(text.replace(before, after))
    return shipped


def test_the_units_as_they_are_have_no_problem() -> None:
    assert units.problems(ANALYZE, units.SHIPPED) == []


def test_a_key_that_systemd_does_not_know_is_seen(tmp_path: Path) -> None:
    shipped = altered(tmp_path, "trainerd.service", "WatchdogSec=", "WatchSec=")
    (problem,) = units.problems(ANALYZE, shipped)
    assert "WatchSec" in problem


@pytest.mark.parametrize("name", units.EXPOSURE)
def test_a_unit_that_is_opened_is_seen(name: str, tmp_path: Path) -> None:
    shipped = altered(tmp_path, name, "CapabilityBoundingSet=\n", "")
    (problem,) = units.problems(ANALYZE, shipped)
    assert problem.startswith(f"{name}: more exposed than {units.EXPOSURE[name]}")


def test_each_service_has_a_limit() -> None:
    assert {path.name for path in units.SHIPPED.glob("*.service")} == units.EXPOSURE.keys()
