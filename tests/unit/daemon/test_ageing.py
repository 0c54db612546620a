"""Which ended runs age out, and what of them is left."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from trainerd.daemon.ageing import DAY_S, MOST, Ageing, EndedRun, aged_out
from trainerd.daemon.config import ConfigError, RetentionConfig, checked
from trainerd.daemon.supervision.events import LauncherAttached, RunDeleted, StopRequested
from trainerd.daemon.views import Views
from unit.daemon.house import configuration, play, short_directory
from unit.daemon.parts import Parts, parts, submitted

NOW = 100 * DAY_S
RULE = RetentionConfig(enabled=True, keep_runs=2, keep_days=30)


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def ended(**ages_days: float) -> list[EndedRun]:
    return [EndedRun(run=run, ended_at=NOW - age * DAY_S) for run, age in ages_days.items()]


def names(
    runs: list[EndedRun], rule: RetentionConfig = RULE, begun_with: Collection[str] = ()
) -> list[str]:
    return [event.run for event in aged_out(runs, begun_with, rule, NOW)]


def test_what_is_old_and_not_among_the_newest_goes_oldest_first() -> None:
    assert names(ended(a=90, b=80, c=70, d=60)) == ["a", "b"]


def test_what_is_young_stays_however_much_there_is() -> None:
    assert names(ended(a=29, b=28, c=27, d=26, e=31)) == ["e"]
    assert names(ended(**{f"r{number}": 30 for number in range(50)})) == []


def test_the_newest_stay_however_old_they_are() -> None:
    assert names(ended(a=99, b=98)) == []
    assert names(ended(a=99, b=98, c=97)) == ["a"]
    assert names(ended(a=99, b=98), replace(RULE, keep_runs=0)) == ["a", "b"]


def test_what_another_run_began_with_stays_as_long_as_that_one() -> None:
    assert names(ended(a=90, b=80, c=70, d=60), begun_with=["a"]) == ["b"]


def test_the_reason_has_the_rule_and_the_numbers() -> None:
    (event,) = aged_out(ended(a=90, b=80, c=70), (), RULE, NOW)
    assert event.reason == (
        "aged out: it ended 90.0 days ago, kept are 30; 2 runs ended later, kept are 2"
    )


@pytest.mark.parametrize("name", ["keep_runs", "keep_days"])
def test_impossible_numbers_are_refused(root: Path, name: str) -> None:
    config = replace(configuration(root), retention=RetentionConfig(**{name: -1}))
    with pytest.raises(ConfigError, match=f"retention.{name} must be ≥ 0, got -1"):
        checked(config)


async def stopped(at: Parts, *runs: str, resumed: str = "") -> None:
    for run in runs:
        event = replace(submitted(run), resumed_run=resumed)
        await at.runtime.post(event)
        await at.runtime.post(StopRequested(run=run))
        at.clock.at += 1.0


def test_old_runs_are_deleted_and_the_journal_says_why(root: Path) -> None:
    async def scene() -> None:
        async with parts(root) as at:
            views = Views(at.telemetry)
            at.runtime.observe(lambda stored, _: views.apply(stored))
            rule = replace(RULE, keep_runs=1)
            ageing = Ageing(at.runtime, views, at.clock, rule)
            await stopped(at, "a-1", "b-1")
            await stopped(at, "c-1", resumed="b-1")
            await at.runtime.post(submitted("d-1"))
            assert await ageing.look() == 0, "they are young"
            at.clock.at += 31 * DAY_S
            await stopped(at, "e-1")
            off = Ageing(at.runtime, views, at.clock, replace(rule, enabled=False))
            assert await off.look() == 0
            # c-1 is old as well, and b-1 stays for as long as it was there.
            assert await ageing.look() == 2
            assert set(at.runtime.state.runs) == {"b-1", "d-1", "e-1"}
            assert await ageing.look() == 1
            assert set(at.runtime.state.runs) == {"d-1", "e-1"}, "a queued run never goes"
            reasons = [
                (event.run, event.run_deleted.reason)
                for event in at.journalled()
                if event.HasField("run_deleted")
            ]
            assert [run for run, _ in reasons] == ["a-1", "c-1", "b-1"]
            assert all(reason.startswith("aged out: it ended 31.0 days") for _, reason in reasons)
            # Their files go with them, once a launcher is there.
            assert set(at.runtime.state.removals) == {"a-1", "b-1", "c-1"}
            await at.runtime.post(LauncherAttached(instance="L", pid=1))
            removed = {each.run for each in at.recorder.commands if hasattr(each, "memory_only")}
            assert removed == {"a-1", "b-1", "c-1"}

    play(scene)


def test_one_look_deletes_a_bounded_number(root: Path) -> None:
    async def scene() -> None:
        async with parts(root) as at:
            views = Views(at.telemetry)
            at.runtime.observe(lambda stored, _: views.apply(stored))
            ageing = Ageing(at.runtime, views, at.clock, replace(RULE, keep_runs=0))
            await stopped(at, *(f"r-{number}" for number in range(MOST + 5)))
            at.clock.at += 31 * DAY_S
            assert await ageing.look() == MOST
            assert await ageing.look() == 5

    play(scene)


def test_a_run_that_was_deleted_meanwhile_is_no_error(root: Path) -> None:
    async def scene() -> None:
        async with parts(root) as at:
            views = Views(at.telemetry)
            at.runtime.observe(lambda stored, _: views.apply(stored))
            ageing = Ageing(at.runtime, views, at.clock, replace(RULE, keep_runs=0))
            await stopped(at, "a-1", "b-1")
            at.clock.at += 31 * DAY_S
            deleting = asyncio.create_task(ageing.look())
            await at.runtime.post(RunDeleted(run="b-1"))
            await deleting
            assert not at.runtime.state.runs

    play(scene)
