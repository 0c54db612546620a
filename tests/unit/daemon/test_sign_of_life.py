"""What systemd is told: a changed status, and a sign of life only while the runtime gets on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from trainerd.daemon import sign_of_life
from trainerd.daemon.sign_of_life import SignOfLife
from unit.daemon.house import play
from unit.daemon.parts import parts


class Systemd:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.told = asyncio.Event()

    def notify(self, state: str) -> None:
        self.heard.append(state)
        self.told.set()

    async def until(self, count: int, state: str) -> None:
        while self.heard.count(state) < count:
            self.told.clear()
            await self.told.wait()


async def _answers() -> None:
    return


def test_signs_come_while_the_runtime_answers_and_stop_when_it_does_not() -> None:
    async def scene() -> None:
        systemd = Systemd()
        hangs = asyncio.Event()
        asked = asyncio.Event()

        async def probe() -> None:
            if hangs.is_set():
                asked.set()
                await asyncio.Event().wait()

        life = SignOfLife(
            notify=systemd.notify, probe=probe, status=lambda: "fine", watchdog_s=0.03
        )
        task = asyncio.create_task(life.run())
        await systemd.until(2, "WATCHDOG=1")
        hangs.set()
        await asked.wait()
        count = systemd.heard.count("WATCHDOG=1")
        await asyncio.sleep(0.1)  # three periods, in which none may come
        assert systemd.heard.count("WATCHDOG=1") == count
        task.cancel()
        await asyncio.wait([task])

    play(scene)


def test_the_status_is_told_when_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_of_life, "STATUS_S", 0.001)

    async def scene() -> None:
        systemd = Systemd()
        said = iter(["a", "a", "a", "b"])
        life = SignOfLife(
            notify=systemd.notify, probe=_answers, status=lambda: next(said, "b"), watchdog_s=None
        )
        task = asyncio.create_task(life.run())
        await systemd.until(1, "STATUS=b")
        assert systemd.heard == ["STATUS=a", "STATUS=b"]
        task.cancel()
        await asyncio.wait([task])

    play(scene)


def test_a_systemd_that_cannot_be_told_ends_nothing() -> None:
    async def scene() -> None:
        heard = asyncio.Event()

        def notify(state: str) -> None:
            if state == "WATCHDOG=1":
                heard.set()
            raise ConnectionRefusedError

        life = SignOfLife(notify=notify, probe=_answers, status=lambda: "fine", watchdog_s=0.003)
        with capture_logs() as said:
            task = asyncio.create_task(life.run())
            await heard.wait()
            task.cancel()
            await asyncio.wait([task])
        assert {line["event"] for line in said} == {"systemd_not_told"}

    play(scene)


def test_the_runtime_answers_once_what_waits_is_journalled(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            starting = asyncio.create_task(at.starting_run())
            await asyncio.sleep(0)
            before = len(at.journalled())
            await at.runtime.probe()
            assert len(at.journalled()) > before
            await starting

    play(scene)


def test_a_runtime_whose_journal_hangs_does_not_answer(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            # Whoever reads or writes the journal holds this.
            async with at.runtime._reading:
                probe = asyncio.create_task(at.runtime.probe())
                done, _ = await asyncio.wait([probe], timeout=0.05)
                assert not done
            await probe

    play(scene)


def test_a_runtime_that_cannot_write_answers_that_it_lives(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            at.journal.full = True  # type: ignore[attr-defined]
            await at.runtime.probe()

    play(scene)


def test_a_runtime_that_has_ended_leaves_no_probe_waiting(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            async with at.runtime._reading:
                probes = [asyncio.create_task(at.runtime.probe()) for _ in range(3)]
                await asyncio.sleep(0.01)
                closing = asyncio.create_task(at.runtime.close())
            await asyncio.gather(*probes, closing)
            await at.runtime.probe()

    play(scene)
