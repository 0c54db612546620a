"""The link to trainers: who may attach, what is journalled, what comes down, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from fakes.launcher import FakeLauncher
from trainerd.daemon.supervision.commands import Pause, Resume
from trainerd.v1 import control_pb2, event_pb2, fault_pb2, link_pb2, run_pb2, trainer_pb2
from trainerd.v1.mailbox import MAILBOX_LIMIT
from trainerd.v1.protocol import protocol
from unit.daemon.house import House, Trainer, house, play, short_directory
from unit.daemon.parts import parts

CODE = grpc.StatusCode


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


async def refused(at: House, run: str, incarnation: int, **hello: object) -> grpc.aio.AioRpcError:
    """The status with which a greeting is refused."""
    trainer = Trainer(at.config.daemon.attach_socket, run, incarnation)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await trainer.attach(**hello)
    finally:
        await trainer.close()
    return caught.value


async def started(at: House) -> tuple[str, str]:
    """A run whose trainer was asked for, and that trainer's token."""
    run = await at.submit()
    await at.launcher.until(lambda fake: (run, 1) in fake.live)
    return run, at.launcher.assignment(run, 1).token


@pytest.mark.parametrize("token", ["", "0" * 64, "ü", "of another incarnation"])
def test_only_the_token_of_this_incarnation_opens_the_link(root: Path, token: str) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run, right = await started(at)
            if token == "of another incarnation":
                error = await refused(at, run, 2, token=right)
            else:
                error = await refused(at, run, 1, token=token)

            assert error.code() is CODE.UNAUTHENTICATED
            assert not (await at.get(run)).attached

    play(scene)


def test_a_past_incarnation_and_a_strange_protocol_are_refused(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run, token = await started(at)
            stranger = link_pb2.ProtocolVersion(major=9, software="0.9")
            error = await refused(at, run, 1, token=token, protocol=stranger)
            assert error.code() is CODE.FAILED_PRECONDITION
            assert "0.9" in str(error.details())
            at.launcher.exit(run, 1, exit_code=3)
            await at.launcher.until(lambda fake: (run, 2) in fake.live)
            error = await refused(at, run, 1, token=token)
            assert error.code() is CODE.FAILED_PRECONDITION
            assert "incarnation 1 of run" in str(error.details())
            assert "the present one is 2" in str(error.details())

    play(scene)


def test_the_first_message_must_be_a_greeting(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            trainer = Trainer(at.config.daemon.attach_socket, "r", 1)
            at.stack.push_async_callback(trainer.close)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                # A second greeting is as wrong as none.
                await trainer.attach_with(heartbeat=trainer_pb2.Heartbeat())
            assert caught.value.code() is CODE.INVALID_ARGUMENT

    play(scene)


def test_reports_are_journalled_before_they_are_acknowledged(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.report(slots_fixed=event_pb2.SlotsFixed(slots=4))
            await trainer.until_acknowledged()

            assert (await at.get(run)).slots == 4
            assert (await at.kinds(run))[-1] == "slots_fixed"

    play(scene)


def test_a_report_that_comes_twice_happens_once(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.fault("checkpoint_save_failed", reason="no_space")
            sequence = trainer.sequence
            await trainer.until_acknowledged()
            before = await at.kinds(run)
            for _ in range(3):
                await trainer.report(sequence=sequence, slots_fixed=event_pb2.SlotsFixed(slots=4))
            await trainer.report(trainer_resumed=event_pb2.TrainerResumed(step=3))
            await trainer.until_acknowledged()

            assert (await at.kinds(run))[len(before) :] == ["trainer_resumed"]
            assert (await at.get(run)).checkpoint_failures == 1

    play(scene)


def test_a_message_of_another_incarnation_is_counted_and_nothing_else(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            trainer.incarnation = 7
            await trainer.report(slots_fixed=event_pb2.SlotsFixed(slots=4))
            trainer.incarnation = 1
            await trainer.report(trainer_resumed=event_pb2.TrainerResumed(step=3))
            await trainer.until_acknowledged()

            assert (await at.get(run)).slots == 0
            assert "slots_fixed" not in await at.kinds(run)

    play(scene)


def test_what_a_trainer_must_not_say_is_acknowledged_and_not_done(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            before = await at.kinds()
            await trainer.report(stop_requested=event_pb2.StopRequested())
            await trainer.report(run_deleted=event_pb2.RunDeleted())
            await trainer.report(decision_made=event_pb2.DecisionMade())
            await trainer.report()
            await trainer.report(phase_entered=event_pb2.PhaseEntered(phase=cast(Any, 99)))
            await trainer.until_acknowledged()

            assert await at.kinds() == before
            assert (await at.get(run)).state == run_pb2.RUN_STATE_RUNNING

    play(scene)


def test_a_trainer_that_attaches_again_learns_what_is_journalled_already(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.enter(fault_pb2.PHASE_STEP, 2)
            await trainer.until_acknowledged()
            await trainer.close()
            await at.until(run, lambda now: not now.attached)
            again = await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=5)

            assert again.welcome is not None
            assert again.welcome.acknowledged_sequence == 2
            assert (await at.until(run, lambda now: now.attached)).step == 5

    play(scene)


def test_the_next_daemon_goes_on_where_the_journal_ends(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.save(4)
            await trainer.until_acknowledged()
            await at.control.PauseRun(control_pb2.PauseRunRequest(run=run, no_wait=True))
            before = await at.get(run)
            events = await at.events()
        async with house(root, launcher) as at:
            adopted = await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=5)
            await adopted.order("pause")
            view = await at.until(run, lambda now: now.attached)

            assert adopted.welcome is not None
            assert adopted.welcome.acknowledged_sequence == 2
            assert (view.state, view.incarnation, view.pid) == (before.state, 1, before.pid)
            assert (view.spec, view.durable_step) == (before.spec, 4)
            assert (view.submitted_at, view.step) == (before.submitted_at, 5)
            assert launcher.killed == []
            assert len(launcher.started) == 1
            # Nothing is rewritten; what is new stands behind it.
            assert (await at.events())[: len(events)] == events
            # The new incarnation of the daemon did not journal the old reports again.
            assert (await at.kinds(run)).count("checkpoint_saved") == 1
            await adopted.save(6)
            await adopted.until_acknowledged()
            assert (await at.get(run)).durable_step == 4

    play(scene)


def test_a_newer_stream_replaces_the_older_one(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            older = await at.training(run)
            newer = await at.trainer(run, phase=fault_pb2.PHASE_STEP)
            await older.until_ended()
            await at.control.PauseRun(control_pb2.PauseRunRequest(run=run, no_wait=True))
            await newer.order("pause")

            assert (await at.get(run)).attached
            assert (await at.kinds(run)).count("trainer_detached") == 0

    play(scene)


def test_a_lost_stream_is_told_and_orders_are_repeated_at_the_next_greeting(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.close()
            await at.until(run, lambda now: not now.attached)
            await at.control.PauseRun(control_pb2.PauseRunRequest(run=run, no_wait=True))
            await at.control.CheckpointRun(control_pb2.CheckpointRunRequest(run=run, no_wait=True))
            again = await at.trainer(run, phase=fault_pb2.PHASE_STEP)

            await again.order("pause")
            await again.order("save_checkpoint")

    play(scene)


def test_a_trainer_that_does_not_listen_loses_its_link_and_nobody_waits(root: Path) -> None:
    async def scene() -> None:
        async with parts(root) as at:
            run = await at.starting_run()
            requests: asyncio.Queue[trainer_pb2.AttachRequest] = asyncio.Queue()
            hello = trainer_pb2.TrainerHello(protocol=protocol(), token=at.tokens.of(run, 1))
            requests.put_nowait(trainer_pb2.AttachRequest(hello=hello))

            async def speaks() -> AsyncIterator[trainer_pb2.AttachRequest]:
                while True:
                    request = await requests.get()
                    request.envelope.run, request.envelope.incarnation = run, 1
                    yield request

            stream = at.links.Attach(speaks(), cast(Any, None))
            welcome = await anext(stream)
            assert welcome.HasField("welcome")
            at.links.send(run, 2, Pause())
            at.links.send(run, 1, Resume())
            assert (await anext(stream)).HasField("resume"), "an order for another incarnation"
            for _ in range(MAILBOX_LIMIT + 1):
                at.links.send(run, 1, Pause())
            assert [message async for message in stream] == []
            at.links.send(run, 1, Pause())
            await at.links.settled()

            told = at.journalled()[-1].trainer_detached.reason
            assert told == f"{MAILBOX_LIMIT} messages wait for the trainer, limit {MAILBOX_LIMIT}"

    play(scene)


def test_a_second_greeting_on_a_stream_ends_it(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.say(hello=trainer_pb2.TrainerHello())
            await trainer.until_ended()
            await at.until(run, lambda now: not now.attached)
            detached = [
                event.trainer_detached.reason
                for event in await at.events(run)
                if event.HasField("trainer_detached")
            ]

            assert detached == ["an unexpected message: hello"]

    play(scene)


def test_telemetry_reaches_the_view_and_of_it_only_the_first_loss_the_journal(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            before = await at.kinds()
            for step in range(2, 30):
                await trainer.telemetry(step, loss=float(step))
            view = await at.until(run, lambda now: now.step == 29)

            assert (view.loss, view.first_loss) == (29.0, 2.0)
            assert await at.kinds() == [*before, "first_loss_heard"]

    play(scene)


def test_the_first_loss_is_the_first_one_for_every_later_daemon(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.telemetry(2, loss=float("nan"))
            await trainer.telemetry(3, loss=7.0)
            await at.until(run, lambda now: now.step == 3)
        async with house(root, launcher) as at:
            assert (await at.get(run)).first_loss == 7.0
            again = await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=3)
            await again.telemetry(9, loss=1.0)
            view = await at.until(run, lambda now: now.step == 9)
            assert (view.loss, view.first_loss) == (1.0, 7.0)

    play(scene)


def test_a_decision_names_its_fault_and_the_next_daemon_tells_it_to_who_still_waits(
    root: Path,
) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.report(slots_fixed=event_pb2.SlotsFixed(slots=4))
            await trainer.fault("step_exception", batch=7, step=3, awaits_decision=True)
            question = trainer.sequence
            assert (await trainer.order("decision")).decision.answers == question
        async with house(root, launcher) as at:
            again = await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=3, awaits=question)
            order = await again.order("decision")
            assert order.decision.answers == question
            assert order.decision.action == fault_pb2.ACTION_RESTART
            again.sequence = question
            fault = fault_pb2.Fault(message="it broke", batch=7, step=3, awaits_decision=True)
            setattr(fault, "class", fault_pb2.FAULT_CLASS_STEP_EXCEPTION)
            raised = event_pb2.FaultRaised(fault=fault, question=question)
            await again.report(fault_raised=raised)
            assert (await again.order("decision")).decision == order.decision

            assert (await at.kinds(run)).count("decision_made") == 1
            assert (await at.get(run)).restarts == 1

    play(scene)
