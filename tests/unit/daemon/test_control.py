"""The control service over a real socket: what each call does, waits for and refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from fakes.launcher import FakeLauncher
from trainerd.v1 import control_pb2, event_pb2, link_pb2, run_pb2
from unit.daemon.house import house, play, short_directory, spec
from unit.daemon.statuses import details, refused

CODE = grpc.StatusCode


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def submission(request_id: str = "", **fields: Any) -> control_pb2.SubmitRunRequest:
    return control_pb2.SubmitRunRequest(
        spec=spec(), request_id=request_id, skip_program_check=True, **fields
    )


def test_a_submit_with_the_same_request_id_is_the_same_run_also_at_the_same_time(
    root: Path,
) -> None:
    async def scene() -> None:
        async with house(root) as at:
            answers = await asyncio.gather(
                *(at.control.SubmitRun(submission("once")) for _ in range(8))
            )
            other = await at.control.SubmitRun(submission("twice"))

            assert len({answer.run.id for answer in answers}) == 1
            assert other.run.id != answers[0].run.id
            assert (await at.kinds()).count("run_submitted") == 2

    play(scene)


def test_a_submitted_run_shows_its_defaults_and_starts(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit("my-run")
            view = await at.until(run, lambda now: now.pid)
            assignment = at.launcher.assignment(run, 1)

            assert run.startswith("my-run-")
            assert view.state == run_pb2.RUN_STATE_STARTING
            assert view.spec.checkpoint.every_steps == 50
            assert view.spec.train.microbatch == 8
            assert view.durable_step == -1
            assert assignment.spec == view.spec
            assert assignment.attach_address == f"unix:{at.config.daemon.attach_socket}"
            assert len(assignment.token) == 64

    play(scene)


def test_every_problem_of_a_bad_specification_is_told_at_once(root: Path) -> None:
    async def scene() -> None:
        bad = spec("Bad Name", steps=0, microbatch=3)
        bad.hosts.count = 2
        problem = control_pb2.Problem(field="args.width", message="width must be > 0")
        async with house(root, FakeLauncher(problems=[problem])) as at:
            request = control_pb2.SubmitRunRequest(spec=bad)
            error = await refused(
                at.control.SubmitRun(request), CODE.INVALID_ARGUMENT, "INVALID_RUN"
            )
            checked = await at.control.CheckRun(control_pb2.CheckRunRequest(spec=bad))

            violations = details(error, error_details_pb2.BadRequest).field_violations
            told = [violation.field for violation in violations]
            assert told == ["name", "train.steps", "train.microbatch", "hosts.count", "args.width"]
            assert "5 problems" in str(error.details())
            assert [each.field for each in checked.problems] == told
            assert checked.problems[2].suggestion == "2 does"
            problems = details(error, control_pb2.CheckRunResponse).problems
            assert list(problems) == list(checked.problems)
            assert await at.kinds() == ["daemon_started", "launcher_attached"]

    play(scene)


def test_a_refusal_with_very_much_to_say_still_arrives(root: Path) -> None:
    async def scene() -> None:
        bad = spec("x" * 100_000)
        for number in range(200):
            bad.trainer.env[f"{number}-ü"] = "1"
        traceback = "…" + "frame\n" * 5000 + "ValueError: the end"
        problem = control_pb2.Problem(field="entry", message="it raised", detail=traceback)
        async with house(root, FakeLauncher(problems=[problem])) as at:
            request = control_pb2.SubmitRunRequest(spec=bad)
            error = await refused(
                at.control.SubmitRun(request), CODE.INVALID_ARGUMENT, "INVALID_RUN"
            )
            violations = details(error, error_details_pb2.BadRequest).field_violations
            checked = await at.control.CheckRun(control_pb2.CheckRunRequest(spec=bad))

            assert violations[0].field == "name"
            assert "more problems: CheckRun answers with all" in violations[-1].description
            assert len(checked.problems) == 201

            good = control_pb2.SubmitRunRequest(spec=spec())
            error = await refused(at.control.SubmitRun(good), CODE.INVALID_ARGUMENT, "INVALID_RUN")
            (told,) = details(error, control_pb2.CheckRunResponse).problems
            assert told.detail.endswith("frame\nValueError: the end")

    play(scene)


def test_a_program_is_checked_unless_the_client_says_no(root: Path) -> None:
    async def scene() -> None:
        problem = control_pb2.Problem(field="entry", message="no module m")
        async with house(root, FakeLauncher(problems=[problem])) as at:
            request = control_pb2.CheckRunRequest(spec=spec("a"), skip_program=True)
            assert not (await at.control.CheckRun(request)).problems
            assert at.launcher.checked == []
            request.skip_program = False
            assert list((await at.control.CheckRun(request)).problems) == [problem]
            assert at.launcher.checked == ["a"]
            # What is wrong with the entry itself is known without loading it.
            request.spec.entry = "nonsense"
            assert len((await at.control.CheckRun(request)).problems) == 1
            assert at.launcher.checked == ["a"]

    play(scene)


def test_requests_that_are_out_of_bounds_are_refused(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            await refused(
                at.control.SubmitRun(submission("x" * 129)),
                CODE.INVALID_ARGUMENT,
                "REQUEST_ID_TOO_LONG",
            )
            for request in (
                control_pb2.ListRunsRequest(page_size=-1),
                control_pb2.ListRunsRequest(page_token="x"),
                control_pb2.ListRunsRequest(page_token="9" * 5000),
            ):
                await refused(at.control.ListRuns(request), CODE.INVALID_ARGUMENT, "BAD_PAGE")
            stranger = link_pb2.ProtocolVersion(major=99, software="9.9")
            error = await refused(
                at.control.GetDaemon(control_pb2.GetDaemonRequest(protocol=stranger)),
                CODE.FAILED_PRECONDITION,
                "PROTOCOL_MISMATCH",
            )
            assert "9.9" in str(error.details())

    play(scene)


def test_pause_answers_when_the_run_holds_and_resume_when_it_goes_on(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            pausing = asyncio.ensure_future(
                at.control.PauseRun(control_pb2.PauseRunRequest(run=run))
            )
            await trainer.order("pause")
            assert not pausing.done()
            await trainer.report(trainer_paused=event_pb2.TrainerPaused(step=3))
            assert (await pausing).run.state == run_pb2.RUN_STATE_PAUSED

            resuming = asyncio.ensure_future(
                at.control.ResumeRun(control_pb2.ResumeRunRequest(run=run))
            )
            await trainer.order("resume")
            assert not resuming.done()
            await trainer.report(trainer_resumed=event_pb2.TrainerResumed(step=3))
            assert (await resuming).run.state == run_pb2.RUN_STATE_RUNNING

    play(scene)


def test_no_wait_answers_once_the_request_is_journalled(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            pause = await at.control.PauseRun(control_pb2.PauseRunRequest(run=run, no_wait=True))
            assert pause.run.state == run_pb2.RUN_STATE_RUNNING
            await at.control.ResumeRun(control_pb2.ResumeRunRequest(run=run, no_wait=True))
            save = control_pb2.CheckpointRunRequest(run=run, no_wait=True)
            assert (await at.control.CheckpointRun(save)).path == ""
            restart = control_pb2.RestartRunRequest(run=run, no_wait=True)
            assert (await at.control.RestartRun(restart)).run.incarnation == 1
            stop = await at.control.StopRun(control_pb2.StopRunRequest(run=run, no_wait=True))
            assert stop.run.state == run_pb2.RUN_STATE_STOPPING
            for kind in ("pause", "resume", "save_checkpoint", "stop", "stop"):
                await trainer.order(kind)

    play(scene)


def test_a_wait_that_somebody_else_makes_vain_is_ended(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            pausing = asyncio.ensure_future(
                at.control.PauseRun(control_pb2.PauseRunRequest(run=run))
            )
            await trainer.order("pause")
            await at.control.ResumeRun(control_pb2.ResumeRunRequest(run=run))
            await refused(pausing, CODE.ABORTED, "OVERTAKEN")

            pausing = asyncio.ensure_future(
                at.control.PauseRun(control_pb2.PauseRunRequest(run=run))
            )
            await trainer.order("resume")
            await trainer.order("pause")
            at.launcher.dies_when_killed = False
            await at.control.StopRun(control_pb2.StopRunRequest(run=run, no_wait=True))
            error = await refused(pausing, CODE.ABORTED, "OVERTAKEN")
            assert "it is stopping: a stop was requested" in str(error.details())

    play(scene)


def test_a_client_that_gives_up_waiting_leaves_no_trace(root: Path) -> None:
    async def scene() -> None:
        async with house(root, metrics="127.0.0.1:0") as at:
            run = await at.submit()
            trainer = await at.training(run)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await at.control.PauseRun(control_pb2.PauseRunRequest(run=run), timeout=0.2)
            assert caught.value.code() is CODE.DEADLINE_EXCEEDED
            await trainer.order("pause")
            # The request stands: who asks again joins it.
            await trainer.report(trainer_paused=event_pb2.TrainerPaused(step=3))
            again = await at.control.PauseRun(control_pb2.PauseRunRequest(run=run))
            assert again.run.state == run_pb2.RUN_STATE_PAUSED

    play(scene)


def test_restart_answers_when_the_new_process_trains(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            restarting = asyncio.ensure_future(
                at.control.RestartRun(control_pb2.RestartRunRequest(run=run))
            )
            order = await trainer.order("stop")
            assert order.stop.save
            assert order.stop.reason == event_pb2.FINISH_REASON_PREEMPTED
            await trainer.finish("preempted", 5)
            await trainer.until_acknowledged()
            at.launcher.exit(run, 1)
            await at.training(run, 2)
            answer = await restarting

            assert (answer.run.incarnation, answer.run.restarts) == (2, 0)

    play(scene)


def test_a_restart_of_a_run_that_holds_answers_when_it_holds_again(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await at.control.PauseRun(control_pb2.PauseRunRequest(run=run, no_wait=True))
            await trainer.report(trainer_paused=event_pb2.TrainerPaused(step=3))
            await at.until(run, lambda now: now.state == run_pb2.RUN_STATE_PAUSED)
            restarting = asyncio.ensure_future(
                at.control.RestartRun(control_pb2.RestartRunRequest(run=run))
            )
            await at.until(run, lambda now: now.state == run_pb2.RUN_STATE_RECOVERING)
            at.launcher.exit(run, 1)
            second = await at.trainer(run, 2)
            await second.order("pause")
            await second.report(trainer_paused=event_pb2.TrainerPaused(step=3))

            assert (await restarting).run.state == run_pb2.RUN_STATE_PAUSED

    play(scene)


def test_stop_answers_when_the_run_has_ended_and_again(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            stopping = asyncio.ensure_future(
                at.control.StopRun(control_pb2.StopRunRequest(run=run, no_checkpoint=True))
            )
            order = await trainer.order("stop")
            assert not order.stop.save
            await trainer.finish("stopped", 7, durable=False)
            answer = await stopping
            again = await at.control.StopRun(control_pb2.StopRunRequest(run=run))

            assert answer.run.state == again.run.state == run_pb2.RUN_STATE_STOPPED
            assert answer.run.result.step == 7
            assert answer.run.HasField("ended_at")
            for call in (
                at.control.PauseRun(control_pb2.PauseRunRequest(run=run)),
                at.control.ResumeRun(control_pb2.ResumeRunRequest(run=run)),
                at.control.RestartRun(control_pb2.RestartRunRequest(run=run)),
                at.control.CheckpointRun(control_pb2.CheckpointRunRequest(run=run)),
            ):
                error = await refused(call, CODE.FAILED_PRECONDITION, "REFUSED_IN_THIS_STATE")
                assert "has ended: it is stopped" in str(error.details())

    play(scene)


def test_a_checkpoint_answers_when_it_is_durable_or_has_failed(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            request = control_pb2.CheckpointRunRequest(run=run)
            first = asyncio.ensure_future(at.control.CheckpointRun(request))
            second = asyncio.ensure_future(at.control.CheckpointRun(request))
            ids = [
                (await trainer.order("save_checkpoint")).save_checkpoint.request_id
                for _ in range(2)
            ]
            # One save that began before both asked answers neither.
            await trainer.save(4)
            await trainer.until_acknowledged()
            assert not first.done()
            assert not second.done()
            await trainer.save(5, *ids)
            assert [(a.step, a.path) for a in await asyncio.gather(first, second)] == [
                (5, "/c/5")
            ] * 2

            third = asyncio.ensure_future(at.control.CheckpointRun(request))
            name = (await trainer.order("save_checkpoint")).save_checkpoint.request_id
            await trainer.fault("checkpoint_save_failed", name, reason="no_space")
            error = await refused(third, CODE.ABORTED, "CHECKPOINT_FAILED")
            assert "it broke" in str(error.details())

            fourth = asyncio.ensure_future(at.control.CheckpointRun(request))
            await trainer.order("save_checkpoint")
            at.launcher.exit(run, 1, exit_code=3)
            await refused(fourth, CODE.ABORTED, "CHECKPOINT_LOST")

    play(scene)


def test_delete_waits_for_the_process_and_removes_everything(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            request = control_pb2.DeleteRunRequest(run=run)
            error = await refused(
                at.control.DeleteRun(request), CODE.FAILED_PRECONDITION, "REFUSED_IN_THIS_STATE"
            )
            assert "stop it first" in str(error.details())
            await trainer.finish("completed", 100)
            await at.until(run, lambda now: now.state == run_pb2.RUN_STATE_COMPLETED)
            deleting = asyncio.ensure_future(at.control.DeleteRun(request))
            at.launcher.exit(run, 1)
            await deleting
            await at.launcher.until(lambda fake: fake.removed == [run])

            await refused(
                at.control.GetRun(control_pb2.GetRunRequest(run=run)),
                CODE.NOT_FOUND,
                "RUN_NOT_FOUND",
            )

    play(scene)
