"""What people see of a run is folded from the journal; what the supervisor ignored is no fact."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from trainerd.daemon import codec
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    FaultRaised,
    FinishReason,
    RolledBack,
    RunDeleted,
    RunResult,
    SlotsFixed,
    StateRestored,
    StopRequested,
    TrainerExited,
    TrainerFinished,
)
from trainerd.daemon.supervision.faults import Fault
from trainerd.daemon.supervision.policy import FaultClass
from trainerd.daemon.views import Views
from trainerd.v1 import fault_pb2, run_pb2
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


def test_what_a_snapshot_older_than_it_was_restored_instead_of_is_gone(tmp_path: Path) -> None:
    """A rollback to memory has removed it: no later process is told to look for it."""

    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            run = await at.running_run()
            for step, source in ((9, "/c/9"), (7, "/m/a.snapshot")):
                restored = StateRestored(
                    run=run, incarnation=1, step=step, batch=step, source=source
                )
                await at.runtime.post(restored)
            assert views.checkpoint(run) == (-1, "")

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


def saved(run: str, step: int) -> CheckpointSaved:
    return CheckpointSaved(run=run, incarnation=1, step=step, path=f"/c/{step}")


def test_saving_is_shown_as_the_newest_checkpoint_tells_of_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            run = await at.running_run()
            fault = Fault(fault_class=FaultClass.CHECKPOINT_SAVE_FAILED, message="no space left")
            await at.runtime.post(FaultRaised(run=run, incarnation=1, fault=fault))
            view = views.snapshot(at.runtime.state.runs[run], 0.0)
            assert (view.checkpoint_failures, view.checkpoint.failure) == (1, "no space left")
            for number, free in enumerate((900, 600, 300)):
                at.clock.at = 10.0 * number
                event = dataclasses.replace(
                    saved(run, number),
                    fallback=True,
                    every_steps=50,
                    disk_bytes=70,
                    disk_free_bytes=free,
                )
                await at.runtime.post(event)
            view = views.snapshot(at.runtime.state.runs[run], 0.0)
            status = view.checkpoint
            assert (view.checkpoint_failures, status.failure) == (0, "")
            assert (status.path, status.fallback, status.every_steps) == ("/c/2", True, 50)
            assert (status.disk_bytes, status.disk_free_bytes) == (70, 300)
            assert (status.saved_at.seconds, status.disk_full_at.seconds) == (1020, 1030)

    play(scene)


def back(run: str, step: int, source: str) -> RolledBack:
    return RolledBack(
        run=run,
        incarnation=1,
        from_step=30,
        step=step,
        first_batch=step,
        last_batch=31,
        source=source,
        fault_class=FaultClass.LOSS_SPIKE,
    )


@pytest.mark.parametrize(
    ("step", "source", "durable", "place"),
    [
        (10, "/c/10", 10, (10, "/c/10")),
        (0, "init", -1, (-1, "")),
        (20, "/c/20", 20, (20, "/c/20")),
    ],
)
def test_after_a_rollback_only_what_is_still_there_is_durable(
    tmp_path: Path, step: int, source: str, durable: int, place: tuple[int, str]
) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            at.runtime.observe(at.telemetry.record)
            run = await at.running_run()
            for each in (10, 20, 25):
                await at.runtime.post(saved(run, each))
            at.telemetry.of(run).step = 30
            assert views.snapshot(at.runtime.state.runs[run], 0.0).durable_step == 25
            await at.runtime.post(back(run, step, source))

            view = views.snapshot(at.runtime.state.runs[run], 0.0)
            assert (view.rollbacks, view.step, view.durable_step) == (1, step, durable)
            assert views.checkpoint(run) == place
            (entry,) = views.ledger(run)
            assert (entry.first_batch, entry.last_batch) == (step, 31)
            assert (entry.decision, entry.fault_class) == ("skip", "loss_spike")
            await at.runtime.post(saved(run, 28))
            assert views.snapshot(at.runtime.state.runs[run], 0.0).durable_step == 28

    play(scene)


def test_a_restored_state_that_nobody_heard_of_is_one_to_go_on_from(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            run = await at.running_run()
            assert views.checkpoint(run) == (-1, "")
            await at.runtime.post(saved(run, 10))
            for step, source in ((12, "/c/12"), (8, "/c/8"), (0, "init")):
                await at.runtime.post(
                    StateRestored(run=run, incarnation=1, step=step, batch=step, source=source)
                )
                expected = (-1, "") if source == "init" else (step, source)
                assert views.checkpoint(run) == expected

    play(scene)


def test_what_a_trial_decides_changes_nothing_that_people_see(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            at.runtime.observe(at.telemetry.record)
            at.runtime.observe(at.metrics.count)
            at.runtime.observe(at.metrics.show)
            run = await at.running_run()
            policy = fault_pb2.Policy(crash=fault_pb2.FaultRule(action=fault_pb2.ACTION_FAIL))
            await at.runtime.post(codec.policy_change(run, policy, trial=True))
            await at.runtime.post(TrainerExited(run=run, incarnation=1, exit_code=3))
            made = [each for each in at.journalled() if each.HasField("decision_made")]

            view = views.snapshot(at.runtime.state.runs[run], 0.0)
            assert sorted(each.decision_made.trial for each in made) == [False, True]
            assert view.restarts == 1
            assert view.policy_version == 0
            text = generate_latest(at.metrics.registry).decode()
            assert 'trainerd_faults_total{action="restart",class="crash"' in text
            assert 'action="fail"' not in text

    play(scene)


def test_the_policy_is_the_newest_with_every_default(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            run = await at.running_run()
            before = views.policy(at.runtime.state.runs[run])
            await at.runtime.post(
                codec.policy_change(run, fault_pb2.Policy(backoff_s=9), trial=False)
            )
            after = views.policy(at.runtime.state.runs[run])

            assert (before.backoff_s, after.backoff_s) == (1, 9)
            assert after.crash == before.crash
            assert after.crash.limit == 20

    play(scene)


def test_parts_of_slots_are_shown(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = viewing(at)
            run = await at.running_run()
            await at.runtime.post(SlotsFixed(run=run, incarnation=1, slots=4))
            oom = Fault(fault_class=FaultClass.DEVICE_OOM, message="m", awaits_decision=True)
            await at.runtime.post(FaultRaised(run=run, incarnation=1, fault=oom, question=1))

            view = views.snapshot(at.runtime.state.runs[run], 0.0)
            assert (view.slots, view.slot_parts) == (4, 2)

    play(scene)
