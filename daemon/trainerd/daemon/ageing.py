"""Old runs age out: an ended run that is neither among the newest nor young is deleted, by rule.

What it left goes with it, as when a client deletes it. A run whose state another one began with
stays as long as that one does: it may have to be restored from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import structlog

from trainerd.daemon.clock import Clock
from trainerd.daemon.config import RetentionConfig
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.events import RunDeleted
from trainerd.daemon.views import Views
from trainerd.v1.mailbox import MailboxOverflow

log = structlog.get_logger()

FIRST_S = 60.0
PERIOD_S = 3600.0
"""Seconds from the daemon's start to the first look, and between two."""
MOST = 50
"""Runs that one look deletes."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A run that nothing can befall any more; `ended_at`: seconds since 1970."""

    run: str
    ended_at: float


def aged_out(
    ended: Iterable[EndedRun], begun_with: Collection[str], rule: RetentionConfig, wall: float
) -> Sequence[RunDeleted]:
    """The deletions that the rule asks for at wall time `wall`, oldest first.

    `begun_with`: runs whose state another one began with.
    """
    newest_first = sorted(ended, key=lambda each: (-each.ended_at, each.run))
    found = []
    for newer, each in enumerate(newest_first):
        days = (wall - each.ended_at) / DAY_S
        if newer >= rule.keep_runs and days > rule.keep_days and each.run not in begun_with:
            reason = (
                f"aged out: it ended {days:.1f} days ago, kept are {rule.keep_days}; "
                f"{newer} runs ended later, kept are {rule.keep_runs}"
            )
            found.append(RunDeleted(run=each.run, reason=reason))
    return found[::-1]


class Ageing:
    """Looks once an hour and deletes what the rule asks for."""

    def __init__(self, runtime: Runtime, views: Views, clock: Clock, rule: RetentionConfig) -> None:
        self._runtime, self._views, self._clock, self._rule = runtime, views, clock, rule

    async def run(self) -> None:
        """Look again and again until cancelled."""
        await asyncio.sleep(FIRST_S)
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_S)

    async def look(self) -> int:
        """Delete at most `MOST` runs; return how many."""
        if not self._rule.enabled:
            return 0
        runs = self._runtime.state.runs.values()
        ended = [
            EndedRun(run=run.id, ended_at=self._views.ended_at(run.id)) for run in runs if run.over
        ]
        begun_with = {self._views.resumed_run(run.id) for run in runs}
        old = aged_out(ended, begun_with, self._rule, self._clock.wall())
        deleted = 0
        for event in old[:MOST]:
            try:
                outcome = await self._runtime.post(event)
            except (JournalFullError, MailboxOverflow) as error:
                log.warning("run_not_aged_out", run=event.run, error=str(error))
                break
            deleted += outcome.ignored is None
            log.info("run_aged_out", run=event.run, reason=event.reason, ignored=outcome.ignored)
        return deleted
