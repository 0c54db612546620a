"""What processes say to systemd, where it has started them."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from trainerd.v1.service_manager import (
    is_journal,
    is_listening,
    journal_prefix,
    sd_notify,
    watchdog_s,
)


@pytest.mark.parametrize("abstract", [False, True])
def test_a_state_reaches_the_socket_that_is_named(
    abstract: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="td-", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        path = f"{folder}/notify"
        systemd.bind("\0" + path if abstract else path)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{path}" if abstract else path)
        assert sd_notify("READY=1\nSTATUS=fine")
        assert systemd.recv(100) == b"READY=1\nSTATUS=fine"


def test_nobody_is_told_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sd_notify("READY=1")
    assert not is_listening(os.environ)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_a_sign_of_life_is_wanted_of_the_process_that_is_named(
    environment: dict[str, str], expected: float | None
) -> None:
    assert watchdog_s(environment, 7) == expected


def test_the_journal_is_told_from_another_file(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as journal, (tmp_path / "b").open("w") as other:
        found = os.fstat(journal.fileno())
        environment = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_journal(journal.fileno(), environment)
        assert not is_journal(other.fileno(), environment)
        assert not is_journal(journal.fileno(), {})
    assert not is_journal(10_000, environment)


def test_a_line_begins_with_its_priority() -> None:
    assert [journal_prefix(level) for level in ("debug", "info", "warning", "error", "odd")] == [
        "<7>",
        "<6>",
        "<4>",
        "<3>",
        "<6>",
    ]
