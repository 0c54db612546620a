"""What a trainer is told of the processes before it: their crashes, and what they have saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trainerd.daemon.assignments import between_crashes_s
from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.policy import FaultClass, Policy
from trainerd.daemon.supervision.state import Run
from trainerd.v1 import control_pb2
from unit.daemon.house import house, play, short_directory, spec

NOW = 1000.0


def run(*crashed_at: float) -> Run:
    budgets = Budgets(windows={FaultClass.CRASH: crashed_at})
    return Run(id="r", name="r", order=1, policy=Policy(), budgets=budgets)


def test_the_time_between_crashes_is_that_of_the_policys_window() -> None:
    assert between_crashes_s(run(), NOW) == 0.0
    assert between_crashes_s(run(900.0), NOW) == 600.0
    assert between_crashes_s(run(500.0, 900.0, 999.0), NOW) == 200.0


def test_a_crash_long_ago_does_not_count() -> None:
    assert between_crashes_s(run(100.0), NOW) == 0.0


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_a_trainer_is_told_what_is_durable_so_that_it_does_not_begin_anew(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            first = await at.submit()
            trainer = await at.training(first)
            assert at.launcher.assignment(first, 1).known_checkpoint == ""
            await trainer.save(60)
            await trainer.until_acknowledged()
            at.launcher.exit(first, 1, exit_code=-1, signal=9)
            await at.launcher.until(lambda fake: (first, 2) in fake.live)
            told = at.launcher.assignment(first, 2)
            assert (told.known_checkpoint, told.known_step) == ("/c/60", 60)
            # And so is that of a run that goes on with it, from its beginning.
            await at.control.StopRun(control_pb2.StopRunRequest(run=first, no_wait=True))
            at.launcher.exit(first, 2)
            await at.until(first, lambda run: run.HasField("ended_at"))
            request = control_pb2.SubmitRunRequest(
                spec=spec("b"), skip_program_check=True, resume_run=first
            )
            second = (await at.control.SubmitRun(request)).run.id
            await at.launcher.until(lambda fake: (second, 1) in fake.live)
            assert at.launcher.assignment(second, 1).known_checkpoint == "/c/60"

    play(scene)
