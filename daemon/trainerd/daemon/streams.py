"""Streams to clients: a run as it changes, and its records; both go on from any record.

Whoever falls behind costs the daemon a bounded queue and nothing else. A watcher is told of the gap
and goes on with the present; a reader of records gets them from the journal, all of them. Those who
keep up are served from memory: the journal is not read for them, and a run is described once for
all who watch it.
"""

from __future__ import annotations

import collections
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from trainerd.daemon.clock import Clock
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.views import Views
from trainerd.daemon.watchers import Watchers
from trainerd.v1 import control_pb2, event_pb2, run_pb2

EVENT_PAGE = 500
SNAPSHOT_S = 0.25
"""Seconds between two situations of a watched run when only telemetry changes."""
FRESH_S = 0.1
"""Seconds for which one description of a run does for all who watch it."""
MOST_SHOWN = 64
"""Runs whose newest description is kept."""


@dataclass(frozen=True, slots=True)
class _Shown:
    run: Run
    at: float
    view: run_pb2.Run


class Streams:
    """Serves the streams of one daemon."""

    def __init__(self, runtime: Runtime, views: Views, watchers: Watchers, clock: Clock) -> None:
        self._runtime, self._views, self._watchers = runtime, views, watchers
        self._clock = clock
        self._shown: collections.OrderedDict[str, _Shown] = collections.OrderedDict()

    async def watch(
        self, run: str, after: int
    ) -> AsyncGenerator[control_pb2.WatchRunResponse, None]:
        """The situation now and after every change, until the run ends or is deleted.

        `after`: begin with the events behind this record; 0: only with those to come.
        """
        with self._watchers.watch(run) as watcher:
            cursor = after or self._runtime.sequence
            behind = after > 0
            shown: run_pb2.Run | None = None
            while True:
                events, dropped = watcher.take()
                now = self._runtime.state.runs.get(run)
                if now is None:
                    return
                if behind:
                    # What was dropped meanwhile is in the journal as well.
                    while page := await self._page(run, cursor):
                        cursor = page[-1].sequence
                        yield control_pb2.WatchRunResponse(
                            run=self._view(now), events=page, sequence=cursor
                        )
                    behind, events, dropped = False, [], 0
                events = [event for event in events if event.sequence > cursor]
                if events:
                    cursor = events[-1].sequence
                view = self._view(now)
                if events or dropped or shown is None or _differs(view, shown):
                    yield control_pb2.WatchRunResponse(
                        run=view, events=events, dropped_events=dropped, sequence=cursor
                    )
                    shown = view
                if now.terminal:
                    return
                # Events are told at once, telemetry a few times a second.
                await watcher.wait(SNAPSHOT_S)

    async def events(
        self, run: str, after: int, *, follow: bool
    ) -> AsyncGenerator[event_pb2.Event, None]:
        """The records of a run (or of all) behind `after`, each once; to its end if followed."""
        with self._watchers.watch(run) as watcher:
            behind = True
            while True:
                events, dropped = watcher.take()
                known = self._runtime.state.runs.get(run)
                ended = known is None or (known.terminal and known.trainer is None)
                if behind or dropped:
                    while page := await self._page(run, after):
                        for event in page:
                            yield event
                        after = page[-1].sequence
                    behind = False
                else:
                    for event in events:
                        if event.sequence > after:
                            yield event
                            after = event.sequence
                if not follow or (run and ended):
                    return
                await watcher.wait(60.0)

    async def _page(self, run: str, after: int) -> list[event_pb2.Event]:
        return [each.message for each in await self._runtime.history(run, after, EVENT_PAGE)]

    def _view(self, run: Run) -> run_pb2.Run:
        now, known = self._clock.now(), self._shown.get(run.id)
        if known is not None and known.run is run and now - known.at < FRESH_S:
            return known.view
        view = self._views.snapshot(run, now)
        self._shown[run.id] = _Shown(run, now, view)
        self._shown.move_to_end(run.id)
        while len(self._shown) > MOST_SHOWN:
            self._shown.popitem(last=False)
        return view


def _differs(view: run_pb2.Run, shown: run_pb2.Run) -> bool:
    """Whether there is more to tell than that time has passed."""
    if view is shown:
        return False
    timeless = run_pb2.Run()
    timeless.CopyFrom(view)
    del timeless.times[:]
    timeless.times.extend(shown.times)
    return timeless != shown
