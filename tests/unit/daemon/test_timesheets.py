"""Where a run's time went, as a whole daemon tells it: on /metrics and in the run itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.launcher import FakeLauncher
from trainerd.daemon.supervision.activities import Activity
from trainerd.daemon.timesheets import activity_times
from trainerd.v1 import fault_pb2, run_pb2, timesheet_pb2, trainer_pb2
from unit.daemon.house import House, Trainer, house, play, short_directory
from unit.daemon.test_metrics import fetch, series


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def times(**seconds: float) -> list[timesheet_pb2.ActivityTime]:
    return [
        timesheet_pb2.ActivityTime(activity=f"ACTIVITY_{name.upper()}", seconds=spent)
        for name, spent in seconds.items()
    ]


def shown(at: House, run: str) -> dict[str, float]:
    """The run's seconds by activity on /metrics."""
    found = {}
    for (name, labels), value in series(fetch(at.metrics_address)).items():
        if name == "trainerd_time_seconds_total" and ("run", run) in labels:
            found[dict(labels)["activity"]] = value
    return found


async def told(trainer: Trainer, **seconds: float) -> None:
    """A heartbeat, and something behind it that is answered."""
    await trainer.say(0, heartbeat=trainer_pb2.Heartbeat(times=times(**seconds)))
    await trainer.enter(fault_pb2.PHASE_STEP, 2)
    await trainer.until_acknowledged()


def test_every_activity_of_a_fresh_run_begins_at_zero_and_queueing_is_counted(root: Path) -> None:
    async def scene() -> None:
        async with house(root, metrics="127.0.0.1:0") as at:
            first, second = await at.submit(), await at.submit("b")
            await at.training(first)
            before = shown(at, second)
            assert before.keys() == {activity.value for activity in Activity}
            await asyncio.sleep(0)
            assert shown(at, second)["queued"] > before["queued"]
            assert sum(before.values()) == before["queued"]

    play(scene)


def test_a_daemon_that_is_new_counts_on_once_the_trainer_is_linked_again(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher, metrics="127.0.0.1:0") as at:
            run = await at.submit()
            trainer = await at.training(run)
            await told(trainer, init=0.1, productive=0.5)
            assert shown(at, run)["productive"] == 0.5
            view = await at.get(run)
            assert {each.seconds for each in view.times if each.activity == 1} == {0.5}
        async with house(root, launcher, metrics="127.0.0.1:0") as at:
            # Less than before would look like another daemon's counter.
            assert shown(at, run) == {}
            trainer = await at.trainer(
                run, phase=fault_pb2.PHASE_STEP, step=5, times=times(init=0.1, productive=0.7)
            )
            await told(trainer, init=0.1, productive=0.8)
            assert shown(at, run)["productive"] == 0.8

    play(scene)


def test_what_a_killed_trainer_wrote_down_counts_and_the_rest_is_its_restart(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher, metrics="127.0.0.1:0") as at:
            run = await at.submit()
            trainer = await at.training(run)
            await told(trainer, productive=0.2)
            launcher.exit(run, 1, signal=9, times=times(productive=0.3, data_wait=0.1))
            await at.until(run, lambda now: now.incarnation == 2)
            gone = shown(at, run)
            assert (gone["productive"], gone["data_wait"]) == (0.3, 0.1)
            await at.training(run, 2)
            assert shown(at, run)["restart"] >= gone["restart"]
            lasting = shown(at, run)
        async with house(root, launcher, metrics="127.0.0.1:0") as at:
            await at.trainer(run, 2, phase=fault_pb2.PHASE_STEP, step=5)
            await at.until(run, lambda now: now.attached)
            again = shown(at, run)
            assert all(again[name] == pytest.approx(lasting[name]) for name in lasting)

    play(scene)


def test_the_time_of_a_run_that_has_ended_is_whole_and_stays(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher, metrics="127.0.0.1:0") as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.finish("completed", 100)
            await trainer.until_acknowledged()
            launcher.exit(run, 1, times=times(productive=1e-6))
            await at.until(run, lambda now: now.state == run_pb2.RUN_STATE_COMPLETED)
            while "trainer_exited" not in await at.kinds(run):
                await asyncio.sleep(0.005)
            events = {event.WhichOneof("payload"): event for event in await at.events(run)}
            ended, began = events["trainer_exited"].time, events["run_submitted"].time
            lived_s = (ended.ToNanoseconds() - began.ToNanoseconds()) / 1e9
            spent = shown(at, run)
            assert sum(spent.values()) == pytest.approx(lived_s, abs=0.02)
            assert spent["drain"] > 0
        async with house(root, launcher, metrics="127.0.0.1:0") as at:
            assert shown(at, run) == pytest.approx(spent)

    play(scene)


def test_the_next_process_is_told_how_far_the_run_has_been(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            assert (await at.training(run)) is not None
            trainer = at.launcher.assignment(run, 1)
            assert trainer.reached_step == 0
        async with house(root, launcher) as at:
            trainer = await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=7)
            await trainer.telemetry(9)
            await at.until(run, lambda now: now.step == 9)
            launcher.exit(run, 1, signal=9)
            await at.until(run, lambda now: now.incarnation == 2)
            await launcher.until(lambda fake: (run, 2) in fake.live)
            assert launcher.assignment(run, 2).reached_step == 9

    play(scene)


def test_nonsense_of_a_trainer_is_left_out() -> None:
    wrong = [
        timesheet_pb2.ActivityTime(activity=0, seconds=1.0),
        timesheet_pb2.ActivityTime(activity=99, seconds=1.0),
        *times(productive=math.nan, paused=-3.0, drain=math.inf),
    ]
    assert activity_times(wrong) == ()
    assert [(t.activity, t.seconds) for t in activity_times([*wrong, *times(init=2.0)])] == [
        (Activity.INIT, 2.0)
    ]
