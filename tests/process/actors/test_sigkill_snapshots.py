"""A trainer that is killed goes on from its newest snapshot, and comes to the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from fakes import snapping, training

TESTS = Path(__file__).resolve().parents[2]
KILLS = 4


def test_killed_again_and_again_it_ends_with_the_state_that_nobody_disturbed(
    tmp_path: Path, compiled_once: dict[str, str]
) -> None:
    """No checkpoint is made on the way: every step forward is a snapshot's."""
    undisturbed = snapping.train(tmp_path / "undisturbed", training.Recorder(), print_to=None)
    moments = random.Random(3)
    reached = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-m", "fakes.snapping", str(tmp_path / "killed")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **compiled_once, "PYTHONPATH": str(TESTS)},
        ) as process:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            begun = next(line for line in lines if line.startswith("restored"))
            assert int(begun.split()[1]) >= reached
            first = next(line for line in lines if line.startswith("whole"))
            reached = int(first.split()[1])
            for _ in range(moments.randrange(20)):
                word, step = next(lines).split()
                reached = max(reached, int(step)) if word == "whole" else reached
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    recorder = training.Recorder()
    resumed = snapping.train(tmp_path / "killed", recorder, print_to=None)
    assert recorder.all("restored")[0][0] >= reached > 0
    assert (resumed.step, resumed.masked_slots) == (snapping.STEPS, undisturbed.masked_slots)
    assert resumed.state_digest == undisturbed.state_digest != ""
