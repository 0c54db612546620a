"""Silence becomes an event when it lasts longer than the phase may take."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import generate_latest

from trainerd.daemon.deadlines import FLOORS_S, Deadlines
from trainerd.daemon.monitor import Monitor
from trainerd.daemon.reach import Reach
from trainerd.daemon.supervision.events import (
    DeadlineExpired,
    PhaseEntered,
    TrainerDetached,
    TrainerExited,
)
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.telemetry import Pulse
from trainerd.v1 import trainer_pb2
from unit.daemon.house import play
from unit.daemon.parts import Parts, parts


def monitor_of(at: Parts) -> Monitor:
    deadlines, reach = Deadlines(at.telemetry), Reach(at.telemetry, started=at.clock.now())
    return Monitor(at.runtime, at.telemetry, deadlines, at.metrics, at.clock, reach=reach)


def heard(at: Parts, run: str) -> None:
    pulse = at.telemetry.of(run)
    pulse.heard_at = pulse.progress_at = at.clock.now()


@pytest.mark.parametrize("phase", list(Phase))
def test_each_phase_has_its_deadline_but_a_held_trainer_has_none(
    tmp_path: Path, phase: Phase
) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            at.clock.at = 100.0
            run = await at.running_run()
            await at.runtime.post(PhaseEntered(run=run, incarnation=1, phase=phase))
            heard(at, run)
            deadline_s = FLOORS_S.get(phase, 1e9)
            at.clock.at = 100.0 + deadline_s
            assert monitor_of(at).look() == []
            at.clock.at = 100.5 + deadline_s
            expired = monitor_of(at).look()

            if phase is Phase.PAUSED:
                assert expired == []
            else:
                assert expired == [
                    DeadlineExpired(
                        run=run,
                        incarnation=1,
                        phase=phase,
                        deadline_s=deadline_s,
                        waited_s=deadline_s + 0.5,
                    )
                ]

    play(scene)


def test_a_slow_step_has_more_time(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            run = await at.running_run()
            at.telemetry.of(run).step_report(
                trainer_pb2.StepReport(step=1, durations_s=[9.0, 20.0, 11.0]), 0.0
            )
            at.clock.at = 200.0
            assert monitor_of(at).look() == []
            at.clock.at += 1.0
            (expired,) = monitor_of(at).look()

            assert (expired.deadline_s, expired.waited_s) == (200.0, 201.0)

    play(scene)


def test_a_detached_or_a_dying_trainer_is_left_to_its_timers(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            run = await at.running_run()
            heard(at, run)
            at.clock.at = 1000.0
            (expired,) = monitor_of(at).look()
            await at.runtime.post(expired)
            assert monitor_of(at).look() == []
            await at.runtime.post(TrainerExited(run=run, incarnation=1, exit_code=-1, signal=9))
            assert monitor_of(at).look() == []

            other = "r-1"
            await at.runtime.post(TrainerDetached(run=other, incarnation=2, reason="cut"))
            assert monitor_of(at).look() == []

    play(scene)


def test_the_age_of_the_last_sign_of_life_grows_while_nobody_is_heard(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:

            def age() -> str:
                monitor_of(at).look()
                lines = generate_latest(at.metrics.registry).decode().splitlines()
                (line,) = (each for each in lines if "heartbeat_age_seconds{" in each)
                return line.split()[-1]

            at.clock.at = 10.0
            run = await at.running_run()
            assert age() == "0.0"
            heard(at, run)
            at.clock.at = 12.0
            assert age() == "2.0"
            await at.runtime.post(TrainerDetached(run=run, incarnation=1, reason="cut"))
            at.clock.at = 15.0
            assert age() == "5.0"
            await at.runtime.post(TrainerExited(run=run, incarnation=1, exit_code=3))
            assert age() == "0.0"

    play(scene)


def test_rates_are_taken_over_the_last_seconds() -> None:
    pulse = Pulse()
    for second in range(31):
        report = trainer_pb2.StepReport(step=second * 5, examples=40, durations_s=[0.2])
        pulse.step_report(report, float(second))

    assert pulse.rates(30.0) == (5.0, 40.0)
    assert pulse.rates(41.0) == (0.0, 0.0)
    assert len(pulse._marks) <= 12
    assert Pulse().rates(1.0) == (0.0, 0.0)


def test_a_recovery_lasts_from_the_first_fault_to_the_next_new_step() -> None:
    pulse = Pulse()

    def report(step: int, now: float) -> float | None:
        return pulse.step_report(trainer_pb2.StepReport(step=step), now)

    assert report(10, 0.0) is None
    pulse.fault("crash", 5.0)
    pulse.fault("hang", 6.0)
    assert report(7, 7.0) is None
    assert report(10, 8.0) is None
    assert report(11, 9.0) == 4.0
    assert (pulse.last_recovery_s, pulse.fault_class) == (4.0, "crash")
    assert report(12, 10.0) is None
