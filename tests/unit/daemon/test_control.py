"""The control service over a real socket: what each call does, waits for and refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fakes.launcher import FakeLauncher
from trainerd.v1 import control_pb2, event_pb2, fault_pb2, link_pb2, run_pb2
from unit.daemon.house import house, play, short_directory, spec

CODE = grpc.StatusCode


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


async def refused(call: Awaitable[Any], code: grpc.StatusCode, reason: str) -> grpc.aio.AioRpcError:
    """The error of a call that must be refused so."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), reason_of(caught.value)) == (code, reason), caught.value
    return caught.value


def details(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    """The detail of this message type in a status."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(cast(bytes, value)).details:
                found = kind()
                if packed.Unpack(found):
                    return found
    return kind()


def reason_of(error: grpc.aio.AioRpcError) -> str:
    return str(details(error, error_details_pb2.ErrorInfo).reason)


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


def test_runs_are_listed_newest_first_page_by_page(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            ids = [await at.submit(name) for name in ("a", "b", "c", "d", "e")]
            pages, token = [], ""
            while True:
                request = control_pb2.ListRunsRequest(page_size=2, page_token=token)
                page = await at.control.ListRuns(request)
                pages.append([run.id for run in page.runs])
                token = page.next_page_token
                if not token:
                    break

            assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]

    play(scene)


def test_a_run_is_found_by_its_id_or_a_unique_beginning(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            first, second = await at.submit("aa"), await at.submit("ab")

            assert (await at.get(first)).id == first
            assert (await at.get("ab")).id == second
            for text in ("a", "x", ""):
                request = control_pb2.GetRunRequest(run=text)
                await refused(at.control.GetRun(request), CODE.NOT_FOUND, "RUN_NOT_FOUND")

    play(scene)


@pytest.mark.parametrize("call", ["WatchRun", "ListEvents"])
def test_a_stream_of_a_run_that_is_not_there_is_refused(root: Path, call: str) -> None:
    async def scene() -> None:
        async with house(root) as at:
            method = getattr(at.control, call)
            request = getattr(control_pb2, f"{call}Request")(run="x")

            async def consume() -> None:
                async for _ in method(request):
                    pass

            await refused(consume(), CODE.NOT_FOUND, "RUN_NOT_FOUND")

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


def test_a_watch_shows_every_change_until_the_end(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            seen: list[control_pb2.WatchRunResponse] = []

            async def watch() -> None:
                request = control_pb2.WatchRunRequest(run=run)
                async for response in at.control.WatchRun(request):
                    seen.append(response)

            watching = asyncio.create_task(watch())
            trainer = await at.training(run)
            await trainer.telemetry(4, loss=2.5)
            await at.until(run, lambda now: now.step == 4)
            await trainer.finish("completed", 100)
            await watching

            told = [
                event.run_state_changed.to
                for response in seen
                for event in response.events
                if event.HasField("run_state_changed")
            ]
            assert told[-2:] == [run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_COMPLETED]
            assert any(response.run.loss == 2.5 for response in seen)
            assert seen[-1].run.result.state_digest == "d"
            sequences = [event.sequence for response in seen for event in response.events]
            assert sequences == sorted(set(sequences))

    play(scene)


def test_a_slow_watcher_is_told_how_much_it_missed(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            call = at.control.WatchRun(control_pb2.WatchRunRequest(run=run))
            first: Any = await call.read()
            # Big reports fill the transport's window, then the watcher's own queue.
            detail = "x" * 60_000
            for _ in range(600):
                await trainer.fault("non_finite_step", detail=detail, delegated="ACTION_SKIP")
            await trainer.until_acknowledged()
            received, dropped = 0, 0
            while received + dropped < 1200:
                response: Any = await call.read()
                received += len(response.events)
                dropped += response.dropped_events
            call.cancel()

            assert first.run.id == run
            assert dropped > 0
            assert received + dropped == 1200

    play(scene)


def test_a_follower_gets_every_event_once_from_where_it_stopped(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            got: list[event_pb2.Event] = []

            async def follow(after: int, most: int) -> None:
                request = control_pb2.ListEventsRequest(run=run, after_sequence=after, follow=True)
                async for response in at.control.ListEvents(request):
                    got.append(response.event)
                    if len(got) == most:
                        return

            following = asyncio.create_task(follow(0, 20))
            for step in range(2, 40):
                await trainer.enter(fault_pb2.PHASE_STEP, step)
            await following
            following = asyncio.create_task(follow(got[-1].sequence, -1))
            await trainer.finish("completed", 100)
            await trainer.until_acknowledged()
            at.launcher.exit(run, 1)
            await following

            assert got == await at.events(run)
            assert [event.sequence for event in got] == sorted({event.sequence for event in got})
            assert got[0].HasField("run_submitted")
            assert got[-1].HasField("trainer_exited")

    play(scene)


def test_events_of_all_runs_come_in_order(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            first, second = await at.submit("a"), await at.submit("b")
            everything = await at.events()

            assert [event.sequence for event in everything] == list(range(1, len(everything) + 1))
            assert {event.run for event in everything} == {"", first, second}
            assert await at.events(after=everything[-2].sequence) == everything[-1:]

    play(scene)


def test_a_log_is_read_from_the_launcher(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            answer = await at.control.ReadRunLog(control_pb2.ReadRunLogRequest(run=run))
            assert answer.data == f"log of {run}".encode()
            request = control_pb2.ReadRunLogRequest(run=run, offset=99)
            await refused(at.control.ReadRunLog(request), CODE.NOT_FOUND, "LOG_UNREADABLE")

    play(scene)


def test_the_daemon_says_what_it_is_and_that_it_serves(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            answer = await at.control.GetDaemon(control_pb2.GetDaemonRequest())
            health: Any = cast(Any, health_pb2_grpc).HealthStub(at.channel)
            for service in ("", "trainerd.v1.ControlService"):
                status = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert status.status == health_pb2.HealthCheckResponse.SERVING

            assert answer.protocol.major == 1
            assert answer.launcher_pid == at.launcher.pid
            assert 0 <= answer.uptime_s < 60

    play(scene)


def test_a_generic_client_finds_and_calls_the_api_by_reflection_alone(root: Path) -> None:
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message_factory import GetMessageClass
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    def generic(address: str) -> dict[str, Any]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert "trainerd.v1.ControlService" in database.get_services()
            pool = DescriptorPool(database)
            service = pool.FindServiceByName("trainerd.v1.ControlService")
            method = service.methods_by_name["ListRuns"]
            call: Any = channel.unary_unary(
                f"/{service.full_name}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            answer = call(GetMessageClass(method.input_type)(page_size=5), timeout=10)
            return MessageToDict(answer)

    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            await at.until(run, lambda now: now.pid)
            address = f"unix:{at.config.daemon.control_socket}"
            answer = await asyncio.to_thread(generic, address)

            assert answer["runs"][0]["id"] == run
            assert answer["runs"][0]["state"] == "RUN_STATE_STARTING"
            assert answer["runs"][0]["spec"]["train"]["steps"] == "100"

    play(scene)


def test_a_run_shows_what_it_came_to(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            for step, loss in ((1, 4.0), (2, 3.0)):
                await trainer.telemetry(step, loss)
            evaluation = run_pb2.Evaluation(step=2, metrics={"bits": 1.5})
            await trainer.report(evaluated=event_pb2.Evaluated(evaluation=evaluation))
            await trainer.save(2)
            await trainer.fault("checkpoint_save_failed", reason="no_space")
            await trainer.finish("decided", 0)
            await trainer.until_acknowledged()
            view = await at.get(run)

            assert (view.step, view.loss, view.first_loss) == (2, 3.0, 4.0)
            assert view.first_evaluation == view.last_evaluation == evaluation
            assert (view.durable_step, view.checkpoint_failures) == (2, 1)
            assert view.last_fault.reason == "no_space"
            assert view.attached
            assert view.phase == fault_pb2.PHASE_STEP
            # It has not ended: what a dying trainer amounts to is not the run's result.
            assert not view.HasField("result")

            at.launcher.exit(run, 1, exit_code=77)
            view = await at.until(run, lambda now: now.incarnation == 2)
            assert view.restarts == 1
            assert "exited with code 77" in view.last_fault.message

    play(scene)
