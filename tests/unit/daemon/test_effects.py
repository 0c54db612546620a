"""Commands are carried out by the daemon that gave them, or by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.launcher import FakeLauncher
from trainerd.daemon.config import Config
from trainerd.daemon.effects import Effects
from trainerd.daemon.launcher_link import LauncherLink
from trainerd.daemon.launchers import Launchers
from trainerd.daemon.monitor import Monitor
from trainerd.daemon.serve import Manner, serve
from trainerd.daemon.supervision.commands import CancelTimer, StartTimer, StartTrainer
from trainerd.daemon.supervision.events import TimerFired
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.views import Views
from unit.daemon.house import configuration, house, play, short_directory
from unit.daemon.parts import Parts, parts


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def effects_of(at: Parts, root: Path) -> Effects:
    return Effects(
        runtime=at.runtime,
        views=Views(Telemetry()),
        links=at.links,
        launchers=Launchers("", LauncherLink(root / "none", None).calls),
        tokens=at.tokens,
        telemetry=at.telemetry,
        clock=at.clock,
        attach_address="unix:/none",
    )


def fired(at: Parts) -> list[str]:
    return [
        message.timer_fired.key for message in at.journalled() if message.HasField("timer_fired")
    ]


def test_a_timer_fires_once_unless_it_is_replaced_or_cancelled(root: Path) -> None:
    async def scene() -> None:
        async with parts(root) as at:
            effects = effects_of(at, root)
            effects.execute(StartTimer(key="a:r:1", delay_s=0.0))
            effects.execute(StartTimer(key="b:r:1", delay_s=0.0))
            effects.execute(CancelTimer(key="b:r:1"))
            effects.execute(CancelTimer(key="never"))
            effects.execute(StartTimer(key="c:r:1", delay_s=0.0))
            effects.execute(StartTimer(key="c:r:1", delay_s=0.01))
            while len(fired(at)) < 2:
                await asyncio.sleep(0.005)
            await effects.close()

            assert fired(at) == ["a:r:1", "c:r:1"]

    play(scene)


def test_after_its_end_a_daemon_begins_nothing(root: Path) -> None:
    async def scene() -> None:
        async with parts(root) as at:
            effects = effects_of(at, root)
            await effects.close()
            effects.execute(StartTimer(key="a:r:1", delay_s=0.0))
            effects.execute(StartTrainer(run="r", incarnation=1, slots=0))
            await asyncio.sleep(0)
            # A sentinel behind whatever might have been posted.
            await at.runtime.post(TimerFired(key="sentinel"))

            assert fired(at) == ["sentinel"]

    play(scene)


def test_the_next_daemon_keeps_the_timers_of_the_last(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            await launcher.until(lambda fake: (run, 1) in fake.live)
            launcher.exit(run, 1, exit_code=3)
            await launcher.until(lambda fake: (run, 2) in fake.live)
            launcher.exit(run, 2, exit_code=3)
            await at.until(run, lambda now: now.restarts == 2)
        assert (run, 3) not in launcher.live
        async with house(root, launcher):
            # The back-off goes on where it was; nobody but its timer starts the trainer.
            await launcher.until(lambda fake: (run, 3) in fake.live)

    play(scene)


def test_a_part_that_dies_ends_the_daemon_with_its_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(self: Monitor) -> None:
        raise ZeroDivisionError("here")

    monkeypatch.setattr(Monitor, "run", dies)
    config: Config = configuration(root)

    async def scene() -> None:
        with pytest.raises(RuntimeError, match="the daemon's monitor ended: ZeroDivisionError"):
            await serve(config, Manner())

    play(scene)
    assert not config.daemon.control_socket.exists()
