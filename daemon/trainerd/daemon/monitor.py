"""Turns silence into events: a trainer that makes no progress within its phase's deadline.

The monitor judges from outside the process: what counts is when the daemon last heard of a new
phase, step or checkpoint, not what a heartbeat claims.
"""

from __future__ import annotations

import asyncio

import structlog

from trainerd.daemon.clock import Clock
from trainerd.daemon.deadlines import Deadlines
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.events import DeadlineExpired
from trainerd.daemon.telemetry import Telemetry
from trainerd.v1.mailbox import MailboxOverflow

log = structlog.get_logger()

PERIOD_S = 1.0


class Monitor:
    """Looks at every live trainer once a second."""

    def __init__(
        self,
        runtime: Runtime,
        telemetry: Telemetry,
        deadlines: Deadlines,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._runtime = runtime
        self._telemetry = telemetry
        self._deadlines = deadlines
        self._metrics = metrics
        self._clock = clock

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            for event in self.look():
                try:
                    await self._runtime.post(event)
                except (JournalFullError, MailboxOverflow) as error:
                    # The trainer stays silent, so the next look finds it again.
                    log.warning("deadline_not_recorded", run=event.run, error=str(error))

    def look(self) -> list[DeadlineExpired]:
        """The trainers that have been silent for too long now."""
        now = self._clock.now()
        expired = []
        age_s = 0.0
        for run in self._runtime.state.runs.values():
            if run.trainer is None or run.trainer.phase is None:
                continue
            # A trainer that is detached grows older all the same.
            if heard_at := self._telemetry.of(run.id).heard_at:
                age_s = now - heard_at
            silence = self._deadlines.silence(run, now=now)
            if silence is not None and silence.waited_s > silence.deadline_s:
                expired.append(
                    DeadlineExpired(
                        run=run.id,
                        incarnation=run.incarnation,
                        phase=silence.phase,
                        deadline_s=silence.deadline_s,
                        waited_s=silence.waited_s,
                    )
                )
        self._metrics.heard(age_s)
        self._metrics.expire(self._clock.wall())
        return expired
