"""ListCheckpoints, VerifyCheckpoints, ExportCheckpoint: asked of the launcher, passed on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.launcher import FakeLauncher
from trainerd.actors.launcher.refusals import Refused
from trainerd.v1 import checkpoint_pb2, control_pb2, launcher_pb2
from unit.daemon.house import house, play, short_directory
from unit.daemon.statuses import refused


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_checkpoints_are_listed_and_verified_where_the_run_saves(root: Path) -> None:
    stored = checkpoint_pb2.StoredCheckpoint(
        step=40, path="/c/40", state=checkpoint_pb2.CHECKPOINT_STATE_DURABLE
    )

    async def scene() -> None:
        launcher = FakeLauncher(checkpoints=[stored])
        async with house(root, launcher) as at:
            run = await at.submit()
            listing = control_pb2.ListCheckpointsRequest(run=run[:4])
            listed = await at.control.ListCheckpoints(listing)
            verifying = control_pb2.VerifyCheckpointsRequest(run=run)
            verified = await at.control.VerifyCheckpoints(verifying)
        assert list(listed.checkpoints) == list(verified.checkpoints) == [stored]
        first, second = launcher.checkpoints_read
        assert (first.run, first.verify) == (run, False)
        assert (second.run, second.verify) == (run, True)
        assert first.checkpoint.every_steps == 50
        assert first.checkpoint == second.checkpoint

    play(scene)


def test_what_a_client_has_verified_is_journalled_as_a_scrub_is(root: Path) -> None:
    """Damaged now, known to be damaged before, and not to be read: the second is told once."""
    found = [
        checkpoint_pb2.StoredCheckpoint(
            step=60,
            path="/c/60.damaged",
            state=checkpoint_pb2.CHECKPOINT_STATE_DAMAGED,
            reason="digest_mismatch",
            problem="flipped",
            verified=True,
        ),
        checkpoint_pb2.StoredCheckpoint(
            step=50, path="/c/50.damaged", state=checkpoint_pb2.CHECKPOINT_STATE_DAMAGED
        ),
        checkpoint_pb2.StoredCheckpoint(
            step=40,
            path="/c/40",
            state=checkpoint_pb2.CHECKPOINT_STATE_UNREADABLE,
            reason="io_error",
            problem="silent",
        ),
    ]

    async def scene() -> None:
        async with house(root, FakeLauncher(checkpoints=found)) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.save(60)
            await at.control.VerifyCheckpoints(control_pb2.VerifyCheckpointsRequest(run=run))
            (told,) = [
                event.checkpoints_verified
                for event in await at.events(run)
                if event.WhichOneof("payload") == "checkpoints_verified"
            ]
            assert not told.scrub
            assert [(each.step, each.reason) for each in told.rejected] == [
                (60, "digest_mismatch"),
                (40, "io_error"),
            ]
            now = await at.get(run)
            assert now.durable_step == -1
            assert "checkpoint of step 40 cannot be read" in now.last_fault.message

    play(scene)


def test_one_is_adopted_by_its_step(root: Path) -> None:
    stored = checkpoint_pb2.StoredCheckpoint(step=0, path="/c/0")

    async def scene() -> None:
        launcher = FakeLauncher(checkpoints=[stored])
        async with house(root, launcher) as at:
            run = await at.submit()
            asked = control_pb2.AdoptCheckpointRequest(run=run, step=0)
            assert (await at.control.AdoptCheckpoint(asked)).checkpoint == stored
        (told,) = launcher.checkpoints_read
        assert (told.HasField("adopt_step"), told.adopt_step, told.verify) == (True, 0, False)

    play(scene)


def test_one_that_the_launcher_does_not_know_is_not_adopted(root: Path) -> None:
    other = checkpoint_pb2.StoredCheckpoint(step=20, path="/c/20")

    async def scene() -> None:
        for known in ([], [other]):
            async with house(root, FakeLauncher(checkpoints=known)) as at:
                run = await at.submit()
                asked = control_pb2.AdoptCheckpointRequest(run=run, step=7)
                with pytest.raises(grpc.aio.AioRpcError, match="no checkpoint of step 7") as raised:
                    await at.control.AdoptCheckpoint(asked)
                assert raised.value.code() is grpc.StatusCode.NOT_FOUND

    play(scene)


def test_an_export_names_the_step_only_if_the_client_did(root: Path) -> None:
    wrote = launcher_pb2.ExportParametersResponse(
        step=40, path="/c/40", directory="/out", arrays=2, parameters=6, bytes=99
    )

    async def scene() -> None:
        launcher = FakeLauncher(exported=wrote)
        async with house(root, launcher) as at:
            run = await at.submit()
            newest = control_pb2.ExportCheckpointRequest(run=run, directory="/out")
            told = await at.control.ExportCheckpoint(newest)
            of_step = control_pb2.ExportCheckpointRequest(run=run, directory="/out", step=0)
            await at.control.ExportCheckpoint(of_step)
        assert told == control_pb2.ExportCheckpointResponse(
            step=40, path="/c/40", directory="/out", arrays=2, parameters=6, bytes=99
        )
        first, second = launcher.exports
        assert (first.run, first.directory, first.spec.entry) == (run, "/out", "m:f")
        assert not first.HasField("step")
        assert second.HasField("step")

    play(scene)


def test_what_the_launcher_refuses_the_client_hears_with_its_reason(root: Path) -> None:
    exists = Refused(
        code=grpc.StatusCode.ALREADY_EXISTS,
        reason="EXPORT_EXISTS",
        message="/out is there already",
        suggestion="name another one",
    )

    async def scene() -> None:
        async with house(root, FakeLauncher(refuse_export=exists)) as at:
            run = await at.submit()
            asked = control_pb2.ExportCheckpointRequest(run=run, directory="/out")
            error = await refused(
                at.control.ExportCheckpoint(asked),
                grpc.StatusCode.ALREADY_EXISTS,
                "EXPORT_EXISTS",
            )
            assert error.details() == str(exists)
            missing = control_pb2.ListCheckpointsRequest(run="no-such-run")
            await refused(
                at.control.ListCheckpoints(missing), grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"
            )

    play(scene)
