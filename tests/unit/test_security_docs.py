"""What the page on security shows can be used as it stands."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from trainerd.actors.launcher import config as launcher
from trainerd.daemon import config as daemon
from trainerd.daemon.api_config import LimitsConfig
from trainerd.v1.variables import NAMES

PAGE = (Path(__file__).resolve().parents[2] / "ops" / "docs" / "security.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", BLOCKS)
def test_each_example_is_a_configuration(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    if "[programs]" in text:
        assert launcher.load(path, {}).programs.pythons == ("/opt/envs/*",)
    else:
        assert daemon.load(path).api.roles.operator[1] == "dns:ci.corp.example"


def test_every_limit_and_every_refused_variable_is_there() -> None:
    assert len(BLOCKS) == 2
    names = [each.name for each in dataclasses.fields(LimitsConfig)]
    assert [name for name in (*names, *NAMES) if f"`{name}`" not in PAGE] == []
