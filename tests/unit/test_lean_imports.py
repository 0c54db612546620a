"""`trainerd.v1.lean_imports`: quick imports that leave nothing behind."""

from __future__ import annotations

import gc
import subprocess
import sys
from types import ModuleType

import pytest

from trainerd.v1.lean_imports import lean_imports

PROGRAM = """
import gc, sys
from trainerd.v1.lean_imports import lean_imports
with lean_imports():
    assert not gc.isenabled()
    from trainerd.daemon import serve
assert gc.isenabled() and gc.get_freeze_count() > 10_000
print(*sys.modules, sep="\\n")
"""


def test_a_daemon_is_imported_without_what_only_draws() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"structlog.dev", "trainerd.daemon.serve"} <= loaded
    assert not {name for name in loaded if name.partition(".")[0] == "rich"}


def test_what_is_loaded_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    rich = ModuleType("rich")
    monkeypatch.setitem(sys.modules, "rich", rich)
    try:
        with lean_imports():
            assert sys.modules["rich"] is rich
    finally:
        gc.unfreeze()
    assert sys.modules["rich"] is rich
