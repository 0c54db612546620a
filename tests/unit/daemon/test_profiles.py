"""Profiles and stacks of a live run: asked for, answered, refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from trainerd.v1 import control_pb2, event_pb2, fault_pb2, run_pb2
from unit.daemon.house import house, play, short_directory
from unit.daemon.statuses import refused

CODE = grpc.StatusCode


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def request(run: str, **fields: object) -> control_pb2.ProfileRunRequest:
    return control_pb2.ProfileRunRequest(run=run, **{"steps": 3, **fields})  # type: ignore[arg-type]


def test_a_profile_is_answered_when_it_is_written(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            asking = asyncio.ensure_future(at.control.ProfileRun(request(run, directory="/p")))
            order = (await trainer.order("profile")).profile
            assert (order.steps, order.directory) == (3, "/p")
            stale = event_pb2.Profiled(request_id="another", path="/q")
            await trainer.report(profiled=stale)
            made = event_pb2.Profiled(request_id=order.request_id, step=5, steps=2, path="/p")
            await trainer.report(profiled=made)
            answer = await asking
            assert (answer.path, answer.step, answer.steps) == ("/p", 5, 2)
            assert answer.run.id == run
            kinds = await at.kinds(run)
            assert kinds.index("profile_requested") < kinds.index("profiled")

    play(scene)


def test_without_waiting_it_is_only_asked_for_and_asked_again_at_the_next_link(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            answer = await at.control.ProfileRun(request(run, no_wait=True))
            assert answer.path == ""
            first = (await trainer.order("profile")).profile
            await trainer.close()
            again = await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=3)
            again.sequence = trainer.sequence
            assert (await again.order("profile")).profile == first
            made = event_pb2.Profiled(request_id=first.request_id, steps=3, path="/p")
            await again.report(profiled=made)
            await again.until_acknowledged()
            await again.close()
            third = await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=4)
            third.sequence = again.sequence
            await third.enter(fault_pb2.PHASE_STEP, 5)
            await third.until_acknowledged()
            assert third.orders.empty(), "what is answered is not asked for again"

    play(scene)


@pytest.mark.parametrize("how", ["it fails", "its trainer dies", "another is asked for"])
def test_a_profile_that_does_not_come_is_told(root: Path, how: str) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            asking = asyncio.ensure_future(at.control.ProfileRun(request(run)))
            order = (await trainer.order("profile")).profile
            match how:
                case "it fails":
                    problem = "no space left"
                    made = event_pb2.Profiled(request_id=order.request_id, problem=problem)
                    await trainer.report(profiled=made)
                    expected = problem
                case "its trainer dies":
                    at.launcher.exit(run, 1, exit_code=-1, signal=9)
                    expected = "its trainer ended"
                case _:
                    await at.control.ProfileRun(request(run, no_wait=True))
                    expected = "another one was asked for"
            error = await refused(asking, CODE.ABORTED, "PROFILE_FAILED")
            assert expected in str(error.details())

    play(scene)


def test_a_run_that_makes_no_steps_is_not_profiled(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            state, reason = CODE.FAILED_PRECONDITION, "REFUSED_IN_THIS_STATE"
            error = await refused(at.control.ProfileRun(request(run)), state, reason)
            assert "makes no steps to profile" in str(error.details())
            trainer = await at.training(run)
            await at.control.PauseRun(control_pb2.PauseRunRequest(run=run, no_wait=True))
            await refused(at.control.ProfileRun(request(run)), state, reason)
            await trainer.enter(fault_pb2.PHASE_PAUSED, 3)
            await at.until(run, lambda now: now.state == run_pb2.RUN_STATE_PAUSED)
            error = await refused(at.control.ProfileRun(request(run)), state, reason)
            assert f"run {run} is paused" in str(error.details())

    play(scene)


def test_impossible_profiles_are_refused_with_every_field(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            for steps in (0, -1, 201):
                bad = request(run, steps=steps, directory="here")
                error = await refused(
                    at.control.ProfileRun(bad), CODE.INVALID_ARGUMENT, "INVALID_PROFILE"
                )
                assert f"steps must be 1 to 200, got {steps}" in str(error.details())
                assert "absolute path" in str(error.details())

    play(scene)


def test_stacks_are_the_launchers(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            await at.training(run)
            at.launcher.thread_stacks = run_pb2.ThreadStacks(threads="1 main S", python="File a")
            asked = control_pb2.CollectRunStacksRequest(run=run)
            answer = await at.control.CollectRunStacks(asked)
            assert answer.stacks == at.launcher.thread_stacks
            assert (answer.run.id, answer.run.phase) == (run, fault_pb2.PHASE_STEP)
            at.launcher.live.clear()
            error = await refused(
                at.control.CollectRunStacks(asked), CODE.FAILED_PRECONDITION, "STACKS_UNREADABLE"
            )
            assert "no trainer is alive" in str(error.details())

    play(scene)


def test_there_are_no_stacks_without_a_trainer(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            first, second = await at.submit("a"), await at.submit("b")
            asked = control_pb2.CollectRunStacksRequest(run=second)
            error = await refused(
                at.control.CollectRunStacks(asked),
                CODE.FAILED_PRECONDITION,
                "REFUSED_IN_THIS_STATE",
            )
            assert "it has no trainer now" in str(error.details())
            assert first != second

    play(scene)
