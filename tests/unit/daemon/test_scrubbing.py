"""Scrubs: due while a run trains calmly, journalled as any verification, and out of its way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from trainerd.daemon import codec
from trainerd.daemon.scrubbing import AGAIN_S, Scrubber
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    LauncherAttached,
    PauseRequested,
    PhaseEntered,
    TrainerAttached,
    TrainerExited,
    TrainerPaused,
)
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.verifying import Verifying
from trainerd.daemon.views import Views
from trainerd.daemon.watchers import Watchers
from trainerd.v1 import checkpoint_pb2, launcher_pb2, run_pb2
from unit.daemon.house import play
from unit.daemon.parts import Parts, parts

RUN = "r-1"
EVERY_S = 3600.0


def found(step: int, *, sound: bool) -> checkpoint_pb2.StoredCheckpoint:
    if sound:
        return checkpoint_pb2.StoredCheckpoint(
            step=step,
            path=f"/c/{step}",
            state=checkpoint_pb2.CHECKPOINT_STATE_DURABLE,
            verified=True,
        )
    return checkpoint_pb2.StoredCheckpoint(
        step=step,
        path=f"/c/{step}.damaged",
        state=checkpoint_pb2.CHECKPOINT_STATE_DAMAGED,
        reason="digest_mismatch",
        problem="d has the SHA-256 00, expected 01",
        verified=True,
    )


@dataclass
class Link:
    """Stands for the link to the launcher, and answers when `gate` is open."""

    answer: list[checkpoint_pb2.StoredCheckpoint] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[launcher_pb2.ReadCheckpointsRequest] = field(default_factory=list)
    refuses: bool = False
    cancelled: bool = False

    async def read_checkpoints(self, request: launcher_pb2.ReadCheckpointsRequest) -> Any:
        self.asked.append(request)
        if self.refuses:
            raise OSError("the launcher is not linked")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return launcher_pb2.ReadCheckpointsResponse(checkpoints=self.answer)


@dataclass
class Scene:
    at: Parts
    link: Link
    views: Views
    scrubber: Scrubber

    async def until(self, true: Any) -> None:
        while not true():
            await asyncio.sleep(0.001)

    def recorded(self, kind: str) -> list[Any]:
        return [
            getattr(event, kind)
            for event in self.at.journalled()
            if event.WhichOneof("payload") == kind
        ]

    def metric(self, name: str) -> float:
        (line,) = [
            line
            for line in generate_latest(self.at.metrics.registry).decode().splitlines()
            if line.startswith(f"trainerd_checkpoint_{name}")
        ]
        return float(line.rpartition(" ")[2])


@contextlib.asynccontextmanager
async def scene_of(root: Path, *, every_s: float = EVERY_S) -> AsyncIterator[Scene]:
    """A run that trains and is to be scrubbed, and a scrubber that looks all the time."""
    async with parts(root) as at:
        views, watchers, link = Views(at.telemetry), Watchers(), Link()
        at.runtime.observe(lambda stored, _: views.apply(stored))
        at.runtime.observe(at.metrics.count)
        at.runtime.observe(at.metrics.show)
        at.runtime.observe(watchers.record)
        verifying = Verifying(at.runtime, views, link, at.clock)  # type: ignore[arg-type]
        scrubber = Scrubber(at.runtime, views, watchers, verifying, at.clock, look_s=0.001)
        spec = run_pb2.RunSpec(name="r", entry="m:f")
        spec.train.steps, spec.train.global_batch = 10, 2
        spec.checkpoint.scrub_every_s = every_s
        await at.runtime.post(LauncherAttached(instance="L", pid=1))
        await at.runtime.post(codec.submission(RUN, spec, ""))
        attached = TrainerAttached(run=RUN, incarnation=1, phase=Phase.STEP, step=1)
        await at.runtime.post(attached)
        for step in (20, 40, 60):
            saved = CheckpointSaved(run=RUN, incarnation=1, step=step, path=f"/c/{step}", bytes=9)
            await at.runtime.post(saved)
        yield Scene(at, link, views, scrubber)


@contextlib.asynccontextmanager
async def scrubbing(scene: Scene) -> AsyncIterator[None]:
    task = asyncio.create_task(scene.scrubber.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_a_scrub_is_due_so_often_while_the_run_trains_or_holds(tmp_path: Path) -> None:
    async def play_scene() -> None:
        async with scene_of(tmp_path) as scene:
            at, due = scene.at, scene.scrubber.due
            at.clock.at = EVERY_S - 1.0
            assert due() is None
            at.clock.at = EVERY_S
            assert (due() or at).id == RUN  # type: ignore[union-attr]
            # Not beside a save that training waits for, nor in the way of a restore.
            for phase in (Phase.SAVE, Phase.RESTORE, Phase.EVALUATE):
                await at.runtime.post(PhaseEntered(run=RUN, incarnation=1, phase=phase))
                assert due() is None
            await at.runtime.post(PauseRequested(run=RUN))
            await at.runtime.post(PhaseEntered(run=RUN, incarnation=1, phase=Phase.PAUSED))
            await at.runtime.post(TrainerPaused(run=RUN, incarnation=1, step=5))
            assert due() is not None
            exited = TrainerExited(run=RUN, incarnation=1, exit_code=-1, signal=9)
            await at.runtime.post(exited)
            assert due() is None

    play(play_scene)


def test_without_the_key_there_is_none(tmp_path: Path) -> None:
    async def play_scene() -> None:
        async with scene_of(tmp_path, every_s=0.0) as scene:
            scene.at.clock.at = 1e9
            assert scene.scrubber.due() is None

    play(play_scene)


def test_what_it_finds_is_told_counted_and_not_offered_any_more(tmp_path: Path) -> None:
    async def play_scene() -> None:
        async with scene_of(tmp_path) as scene:
            at, link = scene.at, scene.link
            link.answer = [found(60, sound=False), found(40, sound=False), found(20, sound=True)]
            link.gate.set()
            at.clock.at = EVERY_S
            async with scrubbing(scene):
                await scene.until(lambda: scene.views.verified(RUN))
            (told,) = scene.recorded("checkpoints_verified")
            assert (told.scrub, told.sound, told.durable_step) == (True, 1, 20)
            assert [(each.step, each.reason) for each in told.rejected] == [
                (60, "digest_mismatch"),
                (40, "digest_mismatch"),
            ]
            decided = scene.recorded("decision_made")
            assert "60 is damaged (d has the SHA-256 00" in decided[0].fault.message
            assert scene.metric('rejected_total{reason="digest_mismatch",run="r-1"}') == 2
            assert scene.metric("last_durable_step") == 20
            assert scene.metric("last_verification_timestamp_seconds") == at.clock.wall()
            shown = scene.views.snapshot(at.runtime.state.runs[RUN], at.clock.at)
            assert (shown.durable_step, shown.checkpoint.path) == (20, "/c/20")
            assert scene.views.checkpoint(RUN) == (20, "/c/20")
            (request,) = link.asked
            assert (request.run, request.verify) == (RUN, True)
            # The next one is due after as long again.
            assert scene.scrubber.due() is None
            at.clock.at += EVERY_S
            assert scene.scrubber.due() is not None

    play(play_scene)


def test_what_was_saved_meanwhile_stays_the_newest(tmp_path: Path) -> None:
    async def play_scene() -> None:
        async with scene_of(tmp_path) as scene:
            at, link = scene.at, scene.link
            link.answer = [found(60, sound=False), found(40, sound=True)]
            at.clock.at = EVERY_S
            async with scrubbing(scene):
                await scene.until(lambda: link.asked)
                await at.runtime.post(
                    CheckpointSaved(run=RUN, incarnation=1, step=80, path="/c/80")
                )
                link.gate.set()
                await scene.until(lambda: scene.views.verified(RUN))
            assert scene.metric("last_durable_step") == 80
            assert scene.views.checkpoint(RUN) == (80, "/c/80")

    play(play_scene)


def test_it_gives_way_at_once_when_something_befalls_the_run(tmp_path: Path) -> None:
    async def play_scene() -> None:
        async with scene_of(tmp_path) as scene:
            at, link = scene.at, scene.link
            at.clock.at = EVERY_S
            async with scrubbing(scene):
                await scene.until(lambda: link.asked)
                exited = TrainerExited(run=RUN, incarnation=1, exit_code=-1, signal=9)
                await at.runtime.post(exited)
                await scene.until(lambda: link.cancelled)
            assert scene.recorded("checkpoints_verified") == []

    play(play_scene)


def test_one_that_comes_to_nothing_is_tried_again_later(tmp_path: Path) -> None:
    async def play_scene() -> None:
        async with scene_of(tmp_path) as scene:
            at, link = scene.at, scene.link
            link.refuses = True
            at.clock.at = EVERY_S
            async with scrubbing(scene):
                await scene.until(lambda: link.asked)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert scene.scrubber.due() is None
            assert len(link.asked) == 1
            at.clock.at += AGAIN_S
            assert scene.scrubber.due() is not None

    play(play_scene)
