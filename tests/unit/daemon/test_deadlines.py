"""Deadlines are learnt from the run's own records, by this daemon and by the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainerd.daemon import codec
from trainerd.daemon.deadlines import FLOORS_S, Deadlines
from trainerd.daemon.journal import Journal
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.events import (
    DaemonStarted,
    Event,
    FinishReason,
    LauncherAttached,
    PhaseEntered,
    RunDeleted,
    RunResult,
    TrainerAttached,
    TrainerDetached,
    TrainerExited,
    TrainerFinished,
)
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.telemetry import Telemetry
from trainerd.v1 import run_pb2, trainer_pb2
from unit.daemon.house import play
from unit.daemon.parts import ManualClock, Parts, parts

RUN = "r-1"
FINISHED = TrainerFinished(
    run=RUN, incarnation=1, reason=FinishReason.COMPLETED, result=RunResult(), durable=True
)


def entered(phase: Phase) -> PhaseEntered:
    return PhaseEntered(run=RUN, incarnation=1, phase=phase)


async def learnt(at: Parts, *story: Event | float, **policy: float) -> Deadlines:
    """The deadlines after a story of one run; a number lets time pass."""
    deadlines = Deadlines(at.telemetry)
    at.runtime.observe(deadlines.record)
    spec = run_pb2.RunSpec(name="r", entry="m:f")
    spec.train.steps, spec.train.global_batch = 10, 2
    for name, value in policy.items():
        setattr(spec.policy, name, value)
    await at.runtime.post(LauncherAttached(instance="L", pid=1))
    await at.runtime.post(codec.submission(RUN, spec, ""))
    await at.runtime.post(TrainerAttached(run=RUN, incarnation=1, phase=Phase.INIT))
    for each in story:
        if isinstance(each, float):
            at.clock.at += each
        else:
            await at.runtime.post(each)
    return deadlines


def compiled(at: Parts, deadlines: Deadlines) -> float | None:
    return deadlines.deadline_s(at.runtime.state.runs[RUN], Phase.COMPILE)


COMPILES = (entered(Phase.COMPILE), 400.0, entered(Phase.FIRST_STEP))


def test_a_phase_may_take_ten_times_as_long_as_it_ever_did(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            shorter = (entered(Phase.COMPILE), 1.0, entered(Phase.FIRST_STEP))
            deadlines = await learnt(at, *COMPILES, 5.0, *shorter)
            run = at.runtime.state.runs[RUN]
            assert compiled(at, deadlines) == 4000.0
            assert deadlines.deadline_s(run, Phase.FIRST_STEP) == FLOORS_S[Phase.FIRST_STEP]
            assert deadlines.deadline_s(run, Phase.PAUSED) is None

    play(scene)


def test_the_policy_says_how_many_times_and_how_long_at_least(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            deadlines = await learnt(at, *COMPILES, hang_factor=2.0, hang_floor_s=30.0)
            run = at.runtime.state.runs[RUN]
            assert compiled(at, deadlines) == 800.0
            # Of what this run has not done yet nobody knows how long it takes.
            assert deadlines.deadline_s(run, Phase.SAVE) == FLOORS_S[Phase.SAVE]
            assert deadlines.deadline_s(run, Phase.STEP) == FLOORS_S[Phase.STEP]
            at.telemetry.of(RUN).step_report(
                trainer_pb2.StepReport(step=1, durations_s=[0.5, 1.0]), at.clock.now()
            )
            assert deadlines.deadline_s(run, Phase.STEP) == 30.0

    play(scene)


def test_a_wait_between_steps_counts_as_the_step(tmp_path: Path) -> None:
    pulse = Telemetry().of(RUN)
    pulse.progress_at = 10.0
    pulse.step_report(trainer_pb2.StepReport(step=1, durations_s=[0.5]), 11.0)
    assert pulse.longest_step_s == 1.0
    pulse.step_report(trainer_pb2.StepReport(step=2, durations_s=[0.5]), 18.0)
    pulse.step_report(trainer_pb2.StepReport(step=3, durations_s=[6.0]), 18.5)
    assert pulse.longest_step_s == 7.0


@pytest.mark.parametrize(
    "between",
    [
        TrainerDetached(run=RUN, incarnation=1, reason="cut"),
        TrainerAttached(run=RUN, incarnation=1, phase=Phase.COMPILE),
        TrainerExited(run=RUN, incarnation=1, exit_code=1),
        DaemonStarted(version="1", pid=1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_was_told_late_teaches_nothing(tmp_path: Path, between: Event) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            story = (entered(Phase.COMPILE), 400.0, between, entered(Phase.FIRST_STEP), FINISHED)
            assert compiled(at, await learnt(at, *story)) == FLOORS_S[Phase.COMPILE]

    play(scene)


def test_the_last_phase_ends_with_the_trainer_s_farewell(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            deadlines = await learnt(at, entered(Phase.DRAIN), 50.0, FINISHED)
            run = at.runtime.state.runs[RUN]
            assert deadlines.deadline_s(run, Phase.DRAIN) == 500.0
            await at.runtime.post(TrainerExited(run=RUN, incarnation=1, exit_code=0))
            await at.runtime.post(RunDeleted(run=RUN))
            assert deadlines.deadline_s(run, Phase.DRAIN) == FLOORS_S[Phase.DRAIN]

    play(scene)


def test_the_next_daemon_has_learnt_the_same(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            deadlines = await learnt(at, *COMPILES)
            run = at.runtime.state.runs[RUN]
        journal = Journal(tmp_path / "journal.sqlite")
        runtime, again = Runtime(journal, ManualClock()), Deadlines(Telemetry())
        runtime.observe(again.record)
        runtime.replay()
        journal.close()
        for phase in Phase:
            assert again.deadline_s(run, phase) == deadlines.deadline_s(run, phase)
        assert again.deadline_s(run, Phase.COMPILE) == 4000.0

    play(scene)
