"""Turns silence into events: a trainer that makes no progress within its phase's deadline.

The monitor judges from outside the process: what counts is when the daemon last heard of a new
phase, step or checkpoint, not what a heartbeat claims.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

import structlog

from trainerd.daemon.clock import Clock
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.events import DeadlineExpired
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.telemetry import Telemetry
from trainerd.v1.mailbox import MailboxOverflow

log = structlog.get_logger()

DEADLINES_S: Mapping[Phase, float] = MappingProxyType(
    {
        Phase.SPAWN: 60.0,
        Phase.INIT: 600.0,
        Phase.RESTORE: 600.0,
        Phase.COMPILE: 3600.0,
        Phase.FIRST_STEP: 900.0,
        Phase.STEP: 120.0,
        Phase.SAVE: 900.0,
        Phase.DRAIN: 300.0,
        Phase.EVALUATE: 1800.0,
    }
)
"""Seconds without progress after which a phase counts as hung. A paused trainer has none."""

STEP_FACTOR = 50.0
"""A step may take this many times its run's median before it counts as hung, at the least."""

PERIOD_S = 1.0


class Monitor:
    """Looks at every live trainer once a second."""

    def __init__(
        self, runtime: Runtime, telemetry: Telemetry, metrics: Metrics, clock: Clock
    ) -> None:
        self._runtime = runtime
        self._telemetry = telemetry
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
            phase = run.trainer.phase if run.trainer else None
            if run.trainer is None or phase is None:
                continue
            # A trainer that is detached grows older all the same.
            if heard_at := self._telemetry.of(run.id).heard_at:
                age_s = now - heard_at
            if not run.trainer.attached or run.trainer.killed or run.trainer.ending:
                continue
            deadline_s = self._deadline_s(run, phase)
            waited_s = now - self._telemetry.of(run.id).progress_at
            if deadline_s is not None and waited_s > deadline_s:
                expired.append(
                    DeadlineExpired(
                        run=run.id,
                        incarnation=run.incarnation,
                        phase=phase,
                        deadline_s=deadline_s,
                        waited_s=waited_s,
                    )
                )
        self._metrics.heard(age_s)
        return expired

    def _deadline_s(self, run: Run, phase: Phase) -> float | None:
        deadline_s = DEADLINES_S.get(phase)
        if deadline_s is not None and phase is Phase.STEP:
            usual_s = self._telemetry.of(run.id).step_duration_s
            return max(deadline_s, STEP_FACTOR * usual_s)
        return deadline_s
