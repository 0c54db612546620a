"""A trainer that is killed, in the middle of whatever it does, comes back to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fakes import killable, training

TESTS = Path(__file__).resolve().parents[2]


def start(directory: Path, data: str, compiled: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fakes.killable", str(directory), data],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **compiled, "PYTHONPATH": str(TESTS)},
    )


@pytest.mark.parametrize(("data", "kill_after_lines"), [("sequence", (7, 25)), ("iterator", (17,))])
def test_w17_killing_the_process_never_changes_the_final_state(
    tmp_path: Path, compiled_once: dict[str, str], data: str, kill_after_lines: tuple[int, ...]
) -> None:
    """Killed and begun anew, the run ends with the digest of one that nobody disturbed."""
    undisturbed = killable.train(tmp_path / "undisturbed", data, training.Recorder())
    for lines in kill_after_lines:
        with start(tmp_path / "killed", data, compiled_once) as process:
            assert process.stdout is not None
            deadline_s = time.monotonic() + 120
            for _ in range(lines):
                assert process.stdout.readline().startswith("step")
                assert time.monotonic() < deadline_s
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    recorder = training.Recorder()
    resumed = killable.train(tmp_path / "killed", data, recorder)
    assert recorder.all("restored")[0][0] >= 4 * len(kill_after_lines)
    assert resumed.state_digest == undisturbed.state_digest
