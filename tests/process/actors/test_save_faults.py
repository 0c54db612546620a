"""Real faults of a directory of checkpoints, with real Orbax, in a process that has to end."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from fakes import faulty_saving
from fakes.faulty_saving import DELETED_AT, EVERY_STEPS, LATE_AT, STEPS
from trainerd.actors import checkpoint_files, checkpoint_manifest

DEADLINE_S = 120.0
TESTS = Path(__file__).parents[2]


def test_training_goes_on_each_failure_has_its_reason_and_the_next_save_is_durable(
    tmp_path: Path,
) -> None:
    """A lock of another process, no permission, a file in the way, deleted meanwhile, too slow."""
    place, aside = tmp_path / "run", tmp_path / "aside"
    place.mkdir()
    aside.mkdir()
    lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    process = subprocess.Popen(
        [sys.executable, faulty_saving.__file__, str(place), str(aside)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": str(TESTS), "JAX_PLATFORMS": "cpu"},
    )
    said: list[list[Any]] = []
    deadline = threading.Timer(DEADLINE_S, process.kill)
    deadline.start()
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            said.append(json.loads(line))
            if said[-1] == ["busy"]:
                os.close(lock)
                process.stdin.write("go on\n")
                process.stdin.flush()
        # Some of Orbax's threads would keep it for ever.
        assert process.wait() == 0
    deadline.cancel()
    deadline.join()

    assert said[-1] == ["result", "completed", STEPS, True]
    failed = [(step, reason) for what, step, reason, _ in _of(said, "failed")]
    assert failed == [
        (5, "io_error"),
        (10, "io_error"),
        (25, "permission_denied"),
        (30, "permission_denied"),
        (45, "not_found"),
        (50, "not_found"),
        (DELETED_AT, "not_found"),
        (LATE_AT, "timeout"),
    ]
    assert ["late", True] in said
    messages = [message for *_, message in _of(said, "failed")]
    assert all(f"not saved to {place}: " in message for message in messages)
    assert "the directory is in use" in messages[0]
    saved = [step for what, step, _ in _of(said, "saved")]
    due = range(EVERY_STEPS, STEPS + 1, EVERY_STEPS)
    # The one that was late is told again, once it is durable.
    assert saved == [step for step in due if step not in dict(failed) or step == LATE_AT]
    # What was deleted is gone; what was saved since is sound.
    assert [found.step for found in checkpoint_files.durable(place)] == [80, 75, 70]
    for found in checkpoint_files.durable(place):
        checkpoint_manifest.verify(found.path)
    assert len(_of(said, "tried")) == len(due)


def _of(said: list[list[Any]], what: str) -> list[list[Any]]:
    return [each for each in said if each[0] == what]
