"""A reload: all of a good file that can change at once, nothing of a bad one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from trainerd.daemon.config import Config, ConfigError, load
from trainerd.daemon.injecting import Permission
from trainerd.daemon.reloading import Live, Reloading, values


class Part:
    """A part that takes the log's level; `wrong`: why it cannot."""

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong
        self.level = "info"

    def live(self) -> Live:
        def prepare(config: Config) -> Callable[[], None]:
            if self.wrong:
                raise ConfigError((self.wrong,))
            return lambda: setattr(self, "level", config.log.level)

        return Live(keys=frozenset({"log.level"}), prepare=prepare)


def reloading(path: Path, *parts: Live) -> Reloading:
    path.write_text("")
    return Reloading(load(path), lambda: load(path), parts)


def test_what_can_change_is_taken_and_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    path, part, permission = tmp_path / "c.toml", Part(), Permission(allowed=False)
    at = reloading(path, part.live(), permission.live())
    path.write_text('[log]\nlevel = "debug"\n[metrics]\naddress = ""\n[injection]\nallowed = true')
    with capture_logs() as said:
        assert at.reload()
        assert at.reload()

    assert (part.level, permission.allowed) == ("debug", True)
    assert [(line["event"], line.get("changed", line.get("keys"))) for line in said] == [
        ("configuration_reloaded", ["injection.allowed", "log.level"]),
        ("configuration_needs_restart", ["metrics.address"]),
        ("configuration_reloaded", []),
        # It still waits for one.
        ("configuration_needs_restart", ["metrics.address"]),
    ]


def test_a_file_with_mistakes_changes_nothing_and_all_of_them_are_told(tmp_path: Path) -> None:
    path, part, permission = tmp_path / "c.toml", Part(), Permission(allowed=False)
    at = reloading(path, part.live(), permission.live())
    path.write_text('[log]\nlevel = "loud"\n[injection]\nallowed = true\nmaybe = 1\n')
    with capture_logs() as said:
        assert not at.reload()

    assert (part.level, permission.allowed) == ("info", False)
    (line,) = said
    assert line["event"] == "configuration_not_reloaded"
    assert len(line["problems"]) == 2

    path.write_text('[log]\nlevel = "debug"\n')
    assert at.reload()
    assert part.level == "debug"


def test_nothing_is_applied_unless_every_part_is_prepared(tmp_path: Path) -> None:
    path, part = tmp_path / "c.toml", Part()
    at = reloading(path, part.live(), Part("api.certificate: expired").live())
    path.write_text('[log]\nlevel = "debug"\n')
    with capture_logs() as said:
        assert not at.reload()

    assert part.level == "info"
    assert said[0]["problems"] == ["api.certificate: expired"]


def test_every_key_of_the_configuration_has_a_path() -> None:
    expected = sum(
        len(dataclasses.fields(getattr(Config(), section.name)))
        for section in dataclasses.fields(Config)
    )
    assert len(values(Config())) == expected
    assert values(Config())["log.level"] == "info"


def test_a_part_that_a_key_belongs_to_knows_it() -> None:
    with pytest.raises(KeyError):
        _ = values(Config())["log.colour"]
    assert Permission(allowed=False).live().keys <= values(Config()).keys()
