"""A trainer that is killed, in the middle of whatever it does, comes back to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys, time
from pathlib import Path

import jax
from fakes import training
from trainerd.actors.loop import run_loop
from trainerd.actors.plan import Plan

recorder = training.Recorder(on_step=lambda record: print("step", record.step, flush=True))
result = run_loop(
    training.program(data=training.Data(spoil={9: "nan"})),
    Plan(steps=60, global_batch=12, microbatch=3, checkpoint_every_steps=4),
    checkpoint_directory=Path(sys.argv[1]),
    reporter=recorder,
    devices=jax.devices()[:1],
)
print("digest", result.state_digest, flush=True)
"""


def start(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )


def digest(directory: Path) -> str:
    with start(directory) as process:
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    return output.splitlines()[-1].removeprefix("digest ")


@pytest.mark.parametrize("kill_after_lines", [(6, 25, 9)])
def test_killing_the_process_never_changes_the_final_state(
    tmp_path: Path, kill_after_lines: tuple[int, ...]
) -> None:
    for lines in kill_after_lines:
        with start(tmp_path / "killed") as process:
            assert process.stdout is not None
            deadline_s = time.monotonic() + 120
            for _ in range(lines):
                assert process.stdout.readline().startswith("step")
                assert time.monotonic() < deadline_s
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert digest(tmp_path / "killed") == digest(tmp_path / "undisturbed")
