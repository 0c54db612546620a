"""Turns silence into events: a trainer that makes no progress within its phase's deadline, a host
that is out of reach while its gang stands still.

The monitor judges from outside the process: what counts is when the daemon last heard of a new
phase, step or checkpoint, not what a heartbeat claims.
"""

from __future__ import annotations

import asyncio

import structlog

from trainerd.daemon.clock import Clock
from trainerd.daemon.deadlines import Deadlines
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.reach import Reach
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.events import DeadlineExpired, MemberGone
from trainerd.daemon.telemetry import Telemetry
from trainerd.v1.mailbox import MailboxOverflow

log = structlog.get_logger()

PERIOD_S = 1.0
AWAY_PERIOD_S = 0.2
"""The period while a host with trainers is out of reach."""


class Monitor:
    """Looks at every live trainer once a second, and more often while a host is out of reach."""

    def __init__(
        self,
        runtime: Runtime,
        telemetry: Telemetry,
        deadlines: Deadlines,
        metrics: Metrics,
        clock: Clock,
        *,
        reach: Reach,
    ) -> None:
        self._runtime = runtime
        self._telemetry = telemetry
        self._deadlines = deadlines
        self._metrics = metrics
        self._clock = clock
        self._reach = reach

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            away = self._reach.away(self._runtime.state)
            await asyncio.sleep(AWAY_PERIOD_S if away else PERIOD_S)
            for event in self.look():
                try:
                    await self._runtime.post(event)
                except (JournalFullError, MailboxOverflow) as error:
                    # The trainer stays silent, so the next look finds it again.
                    log.warning("deadline_not_recorded", run=event.run, error=str(error))

    def look(self) -> list[DeadlineExpired | MemberGone]:
        """The trainers that have been silent for too long now, or are out of reach."""
        now, state = self._clock.now(), self._runtime.state
        expired: list[DeadlineExpired | MemberGone] = [*self._reach.gone(state, now)]
        ages_s = dict.fromkeys(state.hosts, 0.0)
        for run in state.runs.values():
            for host, trainer in run.members.items():
                # A trainer that is detached grows older all the same.
                heard_at = self._telemetry.of(run.id, host).heard_at
                if heard_at and trainer.phase is not None:
                    ages_s[host] = now - heard_at
            silence = self._deadlines.silence(run, now=now)
            if silence is not None and silence.waited_s > silence.deadline_s:
                expired.append(
                    DeadlineExpired(
                        run=run.id,
                        incarnation=run.incarnation,
                        phase=silence.phase,
                        deadline_s=silence.deadline_s,
                        waited_s=silence.waited_s,
                        host=silence.host,
                    )
                )
        for host, age_s in ages_s.items():
            self._metrics.heard(age_s, host)
        self._metrics.expire(self._clock.wall())
        return expired
