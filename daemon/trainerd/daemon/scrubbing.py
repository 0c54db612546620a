"""Scrubs: a run's durable checkpoints are read from the disk now and then, while it trains.

What lies on a disk for long changes there, and is found out when it is needed. Where a run file
says `checkpoint.scrub_every_s`, all of a run's durable checkpoints are verified that often: by the
launcher, in a process of the lowest priority, one file after the other, one run at a time. A scrub
waits for a run that trains calmly or holds, and gives way as soon as something befalls it.
"""

from __future__ import annotations

import asyncio

import grpc
import structlog

from trainerd.daemon.clock import Clock
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.events import RunState
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.verifying import Verifying
from trainerd.daemon.views import Views
from trainerd.daemon.watchers import Watchers

log = structlog.get_logger()

LOOK_S = 1.0
AGAIN_S = 60.0
"""Seconds until a scrub that came to nothing is tried again, at the earliest."""
_CALM = (RunState.RUNNING, RunState.PAUSED)


class Scrubber:
    """Looks once a second whether a run's scrub is due."""

    def __init__(
        self,
        runtime: Runtime,
        views: Views,
        watchers: Watchers,
        verifying: Verifying,
        clock: Clock,
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self._runtime = runtime
        self._views = views
        self._watchers = watchers
        self._verifying = verifying
        self._clock = clock
        self._look_s = look_s
        self._tried: dict[str, float] = {}

    async def run(self) -> None:
        """Scrub until cancelled."""
        while True:
            await asyncio.sleep(self._look_s)
            run = self.due()
            if run is not None:
                await self._scrub(run.id)

    def due(self) -> Run | None:
        """The run that is to be scrubbed now, if there is one."""
        runs, now = self._runtime.state.runs, self._clock.now()
        self._tried = {run: at for run, at in self._tried.items() if run in runs}
        for run in runs.values():
            if not _at_ease(run):
                continue
            every_s = self._views.spec(run.id).checkpoint.scrub_every_s
            waited_s = now - self._views.verified(run.id)
            tried_s = now - self._tried.get(run.id, -AGAIN_S)
            if 0 < every_s <= waited_s and tried_s >= AGAIN_S:
                return run
        return None

    async def _scrub(self, run: str) -> None:
        verification = asyncio.create_task(self._verifying.verify(run, scrub=True))
        try:
            with self._watchers.watch(run) as watcher:
                while not verification.done() and _calm(self._runtime.state.runs.get(run)):
                    told = asyncio.create_task(watcher.wait(self._look_s))
                    await asyncio.wait({verification, told}, return_when=asyncio.FIRST_COMPLETED)
                    told.cancel()
                    await asyncio.wait({told})
                    watcher.take()
        finally:
            verification.cancel()
            await asyncio.wait({verification})
        if not verification.cancelled() and verification.exception() is None:
            return
        self._tried[run] = self._clock.now()
        if verification.cancelled():
            log.info("scrub_given_up", run=run)
        elif (error := verification.exception()) is not None:
            if not isinstance(error, grpc.aio.AioRpcError | OSError):
                raise error
            log.warning("scrub_failed", run=run, error=_told(error))


def _calm(run: Run | None) -> bool:
    """Whether nothing befalls a run that reading beside it could disturb."""
    if run is None or run.trainer is None or run.stopping or run.restarting:
        return False
    return run.state in _CALM and not (run.trainer.ending or run.trainer.killed)


def _at_ease(run: Run) -> bool:
    """Whether it trains or holds, and goes on to."""
    trainer = run.trainer
    at_ease = trainer is not None and trainer.phase in (Phase.STEP, Phase.PAUSED)
    return at_ease and _calm(run)


def _told(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
