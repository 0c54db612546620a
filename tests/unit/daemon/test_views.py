"""What people see of a run is folded from the journal; what the supervisor ignored is no fact."""

from __future__ import annotations

from pathlib import Path

from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    FinishReason,
    RunDeleted,
    RunResult,
    StateRestored,
    StopRequested,
    TrainerExited,
    TrainerFinished,
)
from trainerd.daemon.views import Views
from trainerd.v1 import run_pb2
from unit.daemon.house import play
from unit.daemon.parts import Parts, parts


def viewing(at: Parts) -> Views:
    views = Views(at.telemetry)
    at.runtime.observe(lambda stored, _: views.apply(stored))
    return views


def test_late_news_of_a_past_incarnation_is_no_fact(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            run = await at.running_run()
            await at.runtime.post(CheckpointSaved(run=run, incarnation=9, step=7, path="/c"))

            assert views.snapshot(at.runtime.state.runs[run], 0.0).step == 1
            assert views.saves() == {}

    play(scene)


def test_the_step_goes_back_to_what_was_restored(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            run = await at.running_run()
            await at.runtime.post(CheckpointSaved(run=run, incarnation=1, step=7, path="/c"))
            assert views.snapshot(at.runtime.state.runs[run], 0.0).step == 7
            restored = StateRestored(run=run, incarnation=1, step=5, batch=5, source="/c")
            await at.runtime.post(restored)

            assert views.snapshot(at.runtime.state.runs[run], 0.0).step == 5

    play(scene)


def test_a_result_is_shown_when_the_run_has_ended(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            run = await at.running_run()

            def finished(reason: FinishReason, incarnation: int) -> TrainerFinished:
                return TrainerFinished(
                    run=run,
                    incarnation=incarnation,
                    reason=reason,
                    result=RunResult(step=4, state_digest="d"),
                    durable=True,
                )

            await at.runtime.post(finished(FinishReason.PREEMPTED, 1))
            view = views.snapshot(at.runtime.state.runs[run], 0.0)
            assert not view.HasField("result")
            await at.runtime.post(TrainerExited(run=run, incarnation=1, exit_code=0))
            await at.runtime.post(StopRequested(run=run))
            await at.runtime.post(finished(FinishReason.STOPPED, 2))
            view = views.snapshot(at.runtime.state.runs[run], 0.0)
            assert view.state == run_pb2.RUN_STATE_STOPPED
            assert view.result.state_digest == "d"
            assert view.ended_at.seconds == 1000

            await at.runtime.post(TrainerExited(run=run, incarnation=2, exit_code=0))
            state = at.runtime.state.runs[run]
            await at.runtime.post(RunDeleted(run=run))
            assert not views.snapshot(state, 0.0).HasField("spec")

    play(scene)
