"""Where a client looks for a daemon when nobody says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainerd.v1.protocol import client_address, default_control_address


def test_the_users_own_daemon_comes_first_then_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "own"))
    machine = tmp_path / "machine"
    own = default_control_address()
    assert client_address(machine) == own

    machine.mkdir()
    assert client_address(machine) == f"unix:{machine}/trainerd.sock"

    socket = Path(own.removeprefix("unix:"))
    socket.parent.mkdir(parents=True)
    socket.touch()
    assert client_address(machine) == own
