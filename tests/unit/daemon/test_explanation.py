"""Why a run is as it is: budgets, what comes next, and the story in the journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.launcher import FakeLauncher
from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.events import (
    LauncherAttached,
    LauncherLost,
    PauseRequested,
    RunSubmitted,
    StopRequested,
    TrainerAttached,
    TrainerExited,
)
from trainerd.daemon.supervision.explanation import (
    BudgetUse,
    Explanation,
    Upcoming,
    UpcomingKind,
    explain,
)
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.policy import FaultClass, Policy
from trainerd.daemon.supervision.state import Host, Run, State
from trainerd.daemon.supervision.supervisor import step
from trainerd.v1 import control_pb2, fault_pb2, run_pb2
from unit.daemon.house import House, house, play, short_directory
from unit.daemon.statuses import refused

K = UpcomingKind


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def told(*events: object, run: str = "r", now: float = 0.0) -> Explanation:
    """The explanation after these events; a number in between lets time pass."""
    state, at = State(), 0.0
    for event in events:
        if isinstance(event, float):
            at += event
        else:
            state, _ = step(state, event, now=at)  # type: ignore[arg-type]
    return explain(state, state.runs[run], now=at + now)


def submit(run: str = "r") -> RunSubmitted:
    return RunSubmitted(run=run, name=run, spec=b"", policy=Policy())


LINKED = LauncherAttached(instance="L", pid=1)
ATTACHED = TrainerAttached(run="r", incarnation=1, phase=Phase.STEP)


def dead(incarnation: int = 1) -> TrainerExited:
    return TrainerExited(run="r", incarnation=incarnation, exit_code=-1, signal=9)


def test_a_run_that_trains_waits_for_nothing() -> None:
    assert told(LINKED, submit(), ATTACHED) == Explanation(
        budgets=(), cycles=0, max_cycles=3, upcoming=()
    )


@pytest.mark.parametrize(
    ("story", "upcoming"),
    [
        ((submit(),), [Upcoming(kind=K.LAUNCHER)]),
        ((LINKED, submit(), 4.0), [Upcoming(kind=K.ATTACH, in_s=56.0)]),
        (
            (LINKED, submit(), ATTACHED, dead(), dead(2), 0.25),
            [Upcoming(kind=K.RESTART, in_s=0.697)],
        ),
        (
            (LINKED, submit(), ATTACHED, StopRequested(run="r"), 1.0),
            [Upcoming(kind=K.STOP, in_s=299.0)],
        ),
        (
            (
                *(LINKED, submit(), ATTACHED, PauseRequested(run="r")),
                TrainerAttached(run="r", incarnation=1, phase=Phase.PAUSED),
            ),
            [Upcoming(kind=K.RESUME)],
        ),
        (
            (LINKED, submit(), LauncherLost(reason="gone"), 70.0),
            [Upcoming(kind=K.ATTACH, in_s=0.0), Upcoming(kind=K.LAUNCHER)],
        ),
    ],
    ids=["no launcher", "attach", "back-off", "stop", "paused", "launcher lost"],
)
def test_what_comes_next_is_said_with_its_time(
    story: tuple[object, ...], upcoming: list[Upcoming]
) -> None:
    assert list(told(*story).upcoming) == upcoming


def test_a_queued_run_names_the_one_that_has_the_devices() -> None:
    explanation = told(LINKED, submit(), submit("s"), ATTACHED, run="s")
    assert explanation.upcoming == (Upcoming(kind=K.DEVICES, run="r"),)


def test_a_run_that_has_ended_waits_for_nothing() -> None:
    assert told(submit(), StopRequested(run="r")).upcoming == ()


def test_budgets_are_those_of_the_window_that_ends_now() -> None:
    story = (LINKED, submit(), ATTACHED, dead(), 10.0, dead(2))
    crash = BudgetUse(
        fault_class=FaultClass.CRASH, used=2, limit=20, window_s=600.0, in_a_row=2, consecutive=0
    )
    assert told(*story).budgets == (crash,)
    assert told(*story).cycles == 2
    assert [use.used for use in told(*story, now=595.0).budgets] == [1]
    assert told(*story, now=700.0).budgets == ()


def test_of_hangs_the_phase_is_told_that_has_used_most_of_its_own_window() -> None:
    budgets = Budgets(
        windows={
            (FaultClass.HANG, Phase.STEP): (0.0,),
            (FaultClass.HANG, Phase.RESTORE): (0.0, 0.5),
        }
    )
    run = Run(id="r", name="r", order=1, policy=Policy(), budgets=budgets)
    (use,) = explain(State(runs={"r": run}, hosts={"": Host(launcher="L")}), run, now=1.0).budgets
    assert (use.fault_class, use.used, use.limit) == (FaultClass.HANG, 2, 3)


def test_a_class_without_a_limit_has_none_and_a_row_outlives_its_window() -> None:
    budgets = Budgets(
        windows={FaultClass.CHECKPOINT_SAVE_FAILED: (0.0,), FaultClass.NON_FINITE_STEP: (0.0,)},
        consecutive={FaultClass.CHECKPOINT_SAVE_FAILED: 1, FaultClass.NON_FINITE_STEP: 2},
    )
    run = Run(id="r", name="r", order=1, policy=Policy(), budgets=budgets)
    now = explain(State(runs={"r": run}, hosts={"": Host(launcher="L")}), run, now=1.0).budgets
    assert [(use.fault_class, use.limit) for use in now] == [
        (FaultClass.NON_FINITE_STEP, 10),
        (FaultClass.CHECKPOINT_SAVE_FAILED, None),
    ]
    (row,) = explain(State(runs={"r": run}, hosts={"": Host(launcher="L")}), run, now=700.0).budgets
    assert (row.fault_class, row.used, row.in_a_row, row.consecutive) == (
        FaultClass.NON_FINITE_STEP, 0, 2, 3,
    )  # fmt: skip


async def explained(at: House, run: str) -> control_pb2.ExplainRunResponse:
    return await at.control.ExplainRun(control_pb2.ExplainRunRequest(run=run))


def kinds(answer: control_pb2.ExplainRunResponse) -> list[str]:
    return [str(event.WhichOneof("payload")) for event in answer.story]


def test_the_story_begins_with_the_newest_fault_that_changed_something(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            trainer = await at.training(run)
            assert kinds(await explained(at, run)) == [
                "run_state_changed", "run_state_changed", "trainer_spawned", "run_state_changed",
            ]  # fmt: skip
            launcher.exit(run, 1, exit_code=3)
            trainer = await at.training(run, 2)
            await trainer.fault("non_finite_step", step=5, delegated="ACTION_SKIP")
            await trainer.until_acknowledged()
            answer = await explained(at, run)
            assert kinds(answer) == [
                *("trainer_exited", "decision_made", "run_state_changed", "trainer_spawned"),
                *("run_state_changed", "fault_raised", "decision_made"),
            ]
            assert answer.run.state == run_pb2.RUN_STATE_RUNNING
            assert (answer.cycles, answer.max_cycles) == (1, 3)
            used = {getattr(use, "class"): use.used for use in answer.budgets}
            assert used == {
                fault_pb2.FAULT_CLASS_CRASH: 1, fault_pb2.FAULT_CLASS_NON_FINITE_STEP: 1,
            }  # fmt: skip
        async with house(root, launcher) as at:
            assert kinds(await explained(at, run)) == kinds(answer)
            (upcoming,) = (await explained(at, run)).upcoming
            assert upcoming.kind == control_pb2.UPCOMING_KIND_ATTACH
            assert 0 < upcoming.in_s <= 60.0
            await at.trainer(run, 2, phase=fault_pb2.PHASE_SAVE)
            await at.until(run, lambda now: now.attached)
            (upcoming,) = (await explained(at, run)).upcoming
            assert upcoming.kind == control_pb2.UPCOMING_KIND_HANG
            assert upcoming.phase == fault_pb2.PHASE_SAVE
            assert 800.0 < upcoming.in_s <= 900.0

    play(scene)


def test_of_a_long_story_the_beginning_and_the_end_are_told(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            await at.training(run)
            launcher.exit(run, 1, exit_code=3)
            trainer = await at.training(run, 2)
            for step_ in range(100):
                await trainer.fault("non_finite_microbatch", step=step_, delegated="ACTION_MASK")
            await trainer.until_acknowledged()
            answer = await explained(at, run)
            assert len(answer.story) == 40
            assert kinds(answer)[0] == "trainer_exited"
            assert answer.story[-1].decision_made.fault.step == 99

    play(scene)


def test_there_is_no_explanation_of_a_run_that_there_is_not(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            call = at.control.ExplainRun(control_pb2.ExplainRunRequest(run="none"))
            await refused(call, grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")

    play(scene)
