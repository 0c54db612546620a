"""What is left of snapshots, and of a run's lock, when their process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainerd.actors.run_lock import RunBusy, RunLock

TESTS = Path(__file__).resolve().parents[2]
KILLS = 50


def test_a_writer_that_is_killed_at_any_moment_leaves_its_newest_snapshot_whole(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fakes.snapshot_writer", str(tmp_path), str(KILLS), "1"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS), "XLA_FLAGS": ""},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == KILLS
    halves = 0
    for last, *whole in lines:
        snapshots = [tuple(map(int, item.split(":"))) for item in whole]
        assert all(step == content for step, content in snapshots)
        assert snapshots[0][0] >= int(last)
        halves += len(snapshots) == 1
    # Some of them were killed in the middle of writing one.
    assert halves > 0


def test_the_kernel_gives_a_run_back_when_its_trainer_is_killed(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from trainerd.actors.run_lock import RunLock\n"
        "lock = RunLock.take(Path(sys.argv[1]), patience_s=0.0)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunBusy):
            RunLock.take(tmp_path, patience_s=0.0)
        process.send_signal(signal.SIGKILL)
    RunLock.take(tmp_path, patience_s=0.0).close()
