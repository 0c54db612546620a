"""Streams to clients: from any record on, and at no cost to the daemon when nobody reads them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainerd.daemon.streams import FRESH_S, Streams
from trainerd.daemon.supervision.events import PauseRequested
from trainerd.daemon.views import Views
from trainerd.daemon.watchers import QUEUE_LIMIT, Watcher, Watchers
from trainerd.v1 import control_pb2, event_pb2, fault_pb2, run_pb2
from unit.daemon.house import house, play, short_directory
from unit.daemon.parts import Parts, parts

WATCHERS = 200


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


class Counted:
    """What streams cost a daemon that has nothing but them: reads of the journal, descriptions."""

    def __init__(self, at: Parts) -> None:
        self.at = at
        self.views = Views(at.telemetry)
        self.watchers = Watchers()
        at.runtime.observe(lambda stored, _: self.views.apply(stored))
        at.runtime.observe(self.watchers.record)
        self.streams = Streams(at.runtime, self.views, self.watchers, at.clock)
        self.reads = self.descriptions = 0
        history, snapshot = at.runtime.history, self.views.snapshot

        async def counted_history(*arguments: Any, **options: Any) -> Any:
            self.reads += 1
            return await history(*arguments, **options)

        def counted_snapshot(*arguments: Any) -> Any:
            self.descriptions += 1
            return snapshot(*arguments)

        at.runtime.history = counted_history  # type: ignore[method-assign]
        self.views.snapshot = counted_snapshot  # type: ignore[method-assign]

    def queued(self) -> list[int]:
        return [len(watcher._events) for watcher in self.watchers._watchers]


@contextlib.asynccontextmanager
async def counted(root: Path) -> AsyncIterator[Counted]:
    async with parts(root) as at:
        made = Counted(at)
        await at.running_run()
        yield made


async def ask_to_pause(at: Parts, times: int) -> None:
    """One record each."""
    # Together: they share commits.
    outcomes = await asyncio.gather(
        *(at.runtime.post(PauseRequested(run="r-1")) for _ in range(times))
    )
    assert all(outcome.sequence for outcome in outcomes)


class Reader:
    """Somebody who reads what a stream says."""

    def __init__(self, stream: AsyncGenerator[Any, None]) -> None:
        self.stream = stream
        self.sequences: list[int] = []
        self.dropped = 0
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async with contextlib.aclosing(self.stream):
            async for said in self.stream:
                events = [said] if isinstance(said, event_pb2.Event) else said.events
                self.sequences += [event.sequence for event in events]
                self.dropped += getattr(said, "dropped_events", 0)

    async def until(self, sequence: int) -> None:
        while not self.sequences or self.sequences[-1] < sequence:
            assert not self.task.done(), self.task
            await asyncio.sleep(0)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def test_two_hundred_watchers_of_which_half_never_read_cost_the_supervisor_nothing(
    root: Path,
) -> None:
    async def scene() -> None:
        async with counted(root) as at:
            streams = at.streams
            dead = [streams.watch("r-1", 0) for _ in range(WATCHERS // 4)]
            dead += [streams.events("r-1", 0, follow=True) for _ in range(WATCHERS // 4)]  # type: ignore[misc]
            for stream in dead:
                # It gets one message and never asks for another.
                await anext(stream)
            readers = [Reader(streams.watch("r-1", 0)) for _ in range(WATCHERS // 4)]
            readers += [
                Reader(streams.events("r-1", at.at.runtime.sequence, follow=True))
                for _ in range(WATCHERS // 4)
            ]
            before = at.at.runtime.sequence
            await ask_to_pause(at.at, 1)
            for reader in readers:
                await reader.until(at.at.runtime.sequence)
            reads, descriptions = at.reads, at.descriptions
            for _ in range(10):
                await ask_to_pause(at.at, QUEUE_LIMIT // 4)
                for reader in readers:
                    await reader.until(at.at.runtime.sequence)
            newest = at.at.runtime.sequence

            assert newest - before > 2 * QUEUE_LIMIT
            wanted = list(range(before + 1, newest + 1))
            for reader in readers:
                assert reader.sequences == wanted, "each record once, and none is missing"
                assert reader.dropped == 0
            assert at.reads == reads, "the journal is not read for those who keep up"
            # One a record at most, whoever watches: the run's description is shared.
            assert at.descriptions - descriptions <= newest - before
            assert max(at.queued()) <= QUEUE_LIMIT
            assert len(at.queued()) == WATCHERS
            for reader in readers:
                await reader.end()
            for stream in dead:
                await stream.aclose()
            assert at.queued() == [], "who has left is forgotten"

    play(scene)


def test_a_watcher_that_fell_behind_is_told_of_the_gap_and_goes_on_with_the_present(
    root: Path,
) -> None:
    async def scene() -> None:
        async with counted(root) as at:
            stream = at.streams.watch("r-1", 0)
            first = await anext(stream)
            for _ in range(3):
                await ask_to_pause(at.at, QUEUE_LIMIT // 2)
            newest = at.at.runtime.sequence
            behind = await anext(stream)
            assert behind.dropped_events + len(behind.events) == newest - first.sequence
            assert len(behind.events) == QUEUE_LIMIT
            assert behind.events[-1].sequence == behind.sequence == newest
            assert behind.run.state == at.views.snapshot(at.at.runtime.state.runs["r-1"], 0).state
            await ask_to_pause(at.at, 1)
            after = await anext(stream)
            assert after.events[0].sequence == newest + 1
            assert after.dropped_events == 0
            await stream.aclose()

    play(scene)


def test_a_follower_of_records_that_fell_behind_misses_none(root: Path) -> None:
    async def scene() -> None:
        async with counted(root) as at:
            stream = at.streams.events("r-1", 0, follow=True)
            sequences = [(await anext(stream)).sequence]
            for _ in range(3):
                await ask_to_pause(at.at, QUEUE_LIMIT)
            while sequences[-1] < at.at.runtime.sequence:
                sequences.append((await anext(stream)).sequence)
            run = [event.sequence for event in at.at.journalled() if event.run == "r-1"]
            assert sequences == run
            await stream.aclose()

    play(scene)


@pytest.mark.parametrize("lag", [0, 1, 7, 3 * QUEUE_LIMIT])
def test_a_watch_goes_on_where_another_one_stopped(root: Path, lag: int) -> None:
    async def scene() -> None:
        async with counted(root) as at:
            first = at.streams.watch("r-1", 0)
            seen = await anext(first)
            await first.aclose()
            assert seen.sequence == at.at.runtime.sequence
            await ask_to_pause(at.at, lag)
            newest = at.at.runtime.sequence
            reader = Reader(at.streams.watch("r-1", seen.sequence))
            await ask_to_pause(at.at, 5)
            await reader.until(at.at.runtime.sequence)
            assert newest <= at.at.runtime.sequence
            wanted = list(range(seen.sequence + 1, at.at.runtime.sequence + 1))
            assert (reader.sequences, reader.dropped) == (wanted, 0)
            await reader.end()

    play(scene)


def test_that_time_passes_is_not_told(root: Path) -> None:
    async def scene() -> None:
        async with counted(root) as at:
            described = at.views.snapshot

            def timed(*arguments: Any) -> run_pb2.Run:
                view = described(*arguments)
                view.times.add(seconds=at.descriptions)
                at.at.clock.at += FRESH_S
                return view

            at.views.snapshot = timed  # type: ignore[method-assign]
            stream = at.streams.watch("r-1", 0)
            first = await anext(stream)
            second = asyncio.ensure_future(anext(stream))
            while at.descriptions < 3:
                await asyncio.sleep(0.01)
            assert not second.done()
            await ask_to_pause(at.at, 1)
            assert (await second).run.times[0].seconds > first.run.times[0].seconds
            await stream.aclose()

    play(scene)


def test_a_run_is_described_anew_when_it_or_time_moves_on(root: Path) -> None:
    async def scene() -> None:
        async with counted(root) as at:
            one, two = at.streams.watch("r-1", 0), at.streams.watch("r-1", 0)
            await anext(one)
            await anext(two)
            assert at.descriptions == 1
            at.at.clock.at += FRESH_S
            at.at.telemetry.of("r-1").step = 7
            assert (await anext(one)).run.step == 7
            assert (await anext(two)).run.step == 7
            assert at.descriptions == 2
            for stream in (one, two):
                await stream.aclose()

    play(scene)


def test_a_queue_holds_the_newest_and_counts_what_it_dropped() -> None:
    watcher = Watcher("r-1")
    for sequence in range(1, QUEUE_LIMIT + 11):
        watcher.put(event_pb2.Event(sequence=sequence))
    events, dropped = watcher.take()
    assert ([events[0].sequence, len(events)], dropped) == ([11, QUEUE_LIMIT], 10)
    assert watcher.take() == ([], 0)


def test_a_watch_over_the_wire_says_where_to_go_on(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            call = at.control.WatchRun(control_pb2.WatchRunRequest(run=run))
            first: Any = await call.read()
            call.cancel()
            for step in range(2, 30):
                await trainer.enter(fault_pb2.PHASE_STEP, step)
            await trainer.until_acknowledged()
            missed = [event.sequence for event in await at.events(run, first.sequence)]
            request = control_pb2.WatchRunRequest(run=run, after_sequence=first.sequence)
            call = at.control.WatchRun(request)
            got: list[int] = []
            while not got or got[-1] < missed[-1]:
                response: Any = await call.read()
                got += [event.sequence for event in response.events]
            call.cancel()
            assert got == missed
            assert len(missed) == 28

    play(scene)
