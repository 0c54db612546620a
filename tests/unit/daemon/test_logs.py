"""The log: as configured, also while the daemon runs; each line a JSON object with its host."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from trainerd.daemon.config import ConfigError, LogConfig
from trainerd.daemon.logs import Log


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(name="stderr")
def _stderr(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "stderr", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_json_with_its_host_and_what_it_is_about_first(
    tmp_path: Path, stderr: int
) -> None:
    Log(LogConfig(), host="ada", stderr=stderr).configure()
    log = structlog.get_logger()
    log.warning("trainer_exited", reason="killed", step=7, run="a-1", odd=Path("/x"))
    log.info("elsewhere", host="bob")
    first, second = lines(tmp_path / "stderr")

    assert list(first) == ["timestamp", "level", "event", "run", "host", "step", "reason", "odd"]
    assert (first["level"], first["host"], first["step"]) == ("warning", "ada", 7)
    assert second["host"] == "bob"


def test_a_logger_that_exists_follows_a_changed_level_and_place(
    tmp_path: Path, stderr: int
) -> None:
    log_itself = Log(LogConfig(), host="ada", stderr=stderr)
    log_itself.configure()
    log = structlog.get_logger()
    log.debug("hidden")
    log.info("one")
    changed = log_itself.prepared(LogConfig(level="debug", file=str(tmp_path / "log")))
    log.info("two")
    changed()
    log.debug("three")
    (tmp_path / "log").rename(tmp_path / "moved")
    log.debug("four")
    log_itself.prepared(LogConfig(level="error", file=str(tmp_path / "log")))()
    log.warning("hidden")
    log.error("five")
    log_itself.prepared(LogConfig())()
    log.info("six")

    assert [line["event"] for line in lines(tmp_path / "stderr")] == ["one", "two", "six"]
    assert [line["event"] for line in lines(tmp_path / "moved")] == ["three", "four"]
    assert [line["event"] for line in lines(tmp_path / "log")] == ["five"]


def test_a_file_that_cannot_be_opened_is_a_mistake_and_changes_nothing(
    tmp_path: Path, stderr: int
) -> None:
    log = Log(LogConfig(), host="ada", stderr=stderr)
    with pytest.raises(ConfigError, match=r'log\.file: ".*/none/log" cannot be opened: No such'):
        log.prepared(LogConfig(file=str(tmp_path / "none" / "log")))


def test_each_line_has_its_priority_in_the_journal_and_none_in_a_file(
    tmp_path: Path, stderr: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(stderr)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    log_itself = Log(LogConfig(), host="ada", stderr=stderr)
    log_itself.configure()
    log = structlog.get_logger()
    log.info("a")
    log.error("b")
    log_itself.prepared(LogConfig(file=str(tmp_path / "log")))()
    log.error("c")
    log_itself.prepared(LogConfig())()

    said = (tmp_path / "stderr").read_text().splitlines()
    assert [line[:4] for line in said] == ["<6>{", "<3>{"]
    assert lines(tmp_path / "log")[0]["event"] == "c"


def test_pretty_is_for_people(tmp_path: Path, stderr: int) -> None:
    Log(LogConfig(format="pretty"), host="ada", stderr=stderr).configure()
    structlog.get_logger().info("daemon_ready", pid=7)

    line = (tmp_path / "stderr").read_text()
    assert not line.startswith("{")
    assert "daemon_ready" in line
    assert "pid=7" in line
