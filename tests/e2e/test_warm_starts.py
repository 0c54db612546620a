"""Trainers that a standby forks end with the state of those that are started anew."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from e2e.host import Host, eventually, host
from trainerd.v1 import run_pb2

pytestmark = pytest.mark.e2e

STEPS = 200
STANDBY_S = 150.0


def _standby(made: Host, run: str, count: int) -> int:
    """The process id of the run's `count`-th standby."""

    def ready() -> list[str]:
        return [each["pid"] for each in made.said("standby_ready") if each["run"] == run]

    eventually(f"standby {count} of {run}", lambda: len(ready()) >= count, STANDBY_S)
    return int(ready()[count - 1])


def _held(made: Host, gate: Path) -> run_pb2.RunSpec:
    free = 16 * STEPS // 4
    spec = made.spec(
        "killed",
        program="held",
        steps=STEPS,
        every_steps=10,
        args={"gate": str(gate), "free": free},
    )
    spec.policy.hang_floor_s = 600.0
    spec.policy.backoff_max_s = 0.01
    return spec


def _kill(made: Host, run: str) -> run_pb2.Run:
    """Kill the trainer; the run as it is once its successor trains."""
    now = made.run(run)
    os.kill(now.pid, signal.SIGKILL)
    return made.until(
        run,
        lambda then: then.incarnation > now.incarnation and then.state == run_pb2.RUN_STATE_RUNNING,
    )


def test_kills_through_warm_and_cold_starts_never_change_the_final_state(tmp_path: Path) -> None:
    with host(standby_after_s=0.0) as made:
        calm = made.completed(made.submit(made.spec("calm", steps=STEPS)))
        run = made.submit(_held(made, tmp_path / "go"))
        made.until(run, lambda now: now.step >= 20)
        standby = _standby(made, run, 1)
        _kill(made, run)
        os.kill(standby, signal.SIGKILL)
        _kill(made, run)
        _standby(made, run, 2)
        _kill(made, run)
        (tmp_path / "go").touch()
        done = made.completed(run)
        assert done.result.state_digest == calm.result.state_digest
        assert (done.restarts, done.incarnation) == (3, 4)
        started = [each["warm"] for each in made.said("trainer_started") if each["run"] == run]
        assert started == ["false", "true", "false", "true"]
