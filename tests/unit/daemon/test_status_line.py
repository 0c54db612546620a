"""The line of `systemctl status`: what is under way, what waits, what is missing."""

from __future__ import annotations

from pathlib import Path

from trainerd.daemon.status_line import status_line
from trainerd.daemon.supervision.events import StopRequested
from trainerd.daemon.views import Views
from unit.daemon.house import play
from unit.daemon.parts import parts, submitted


def test_it_tells_of_the_run_under_way_and_counts_those_that_wait(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            views = Views(at.telemetry)
            at.runtime.observe(lambda stored, _: views.apply(stored))

            def line(launcher: str = "") -> str:
                return status_line(at.runtime.state, views, now=0.0, launcher=launcher)

            assert line() == "no run under way"
            await at.running_run("first-1")
            assert line() == "first running, step 1 of 10"
            await at.runtime.post(submitted("second-1"))
            await at.runtime.post(submitted("third-1"))
            assert line() == "first running, step 1 of 10; 2 queued"
            await at.runtime.post(StopRequested(run="third-1"))
            assert line("refused") == (
                "launcher not linked (refused); first running, step 1 of 10; 1 queued"
            )

    play(scene)
