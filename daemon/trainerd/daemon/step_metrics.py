"""A run's step metrics, put together from those of its hosts.

Every process keeps the rows of the updates that it applied, so a host that was away lacks some, and
has some that were made anew without it. A row counts if no later incarnation has made an update at
or before its step: where that one began, everything after was given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from trainerd.daemon.launcher_calls import LauncherCalls
from trainerd.v1 import launcher_pb2, run_pb2

_Page = launcher_pb2.ReadStepMetricsResponse


async def read_steps(
    launchers: Sequence[LauncherCalls], run: str, *, after: int, most: int
) -> _Page:
    """At most `most` rows of steps beyond `after`, by step. Raise as the calls do."""
    if len(launchers) == 1:
        request = launcher_pb2.ReadStepMetricsRequest(run=run, after_step=after, limit=most)
        return await launchers[0].read_step_metrics(request)
    # From the row at `after` on, which tells the incarnation that had come as far.
    position, newest = max(0, after - 1), 0
    steps: list[run_pb2.StepMetrics] = []
    while True:
        request = launcher_pb2.ReadStepMetricsRequest(
            run=run, after_step=position, limit=max(2, most)
        )
        pages = await asyncio.gather(*(each.read_step_metrics(request) for each in launchers))
        # Beyond the shortest of those that go on, something may be missing.
        ends = [page.steps[-1].step for page in pages if page.more and page.steps]
        for row in _newest_of_each_step(pages, min(ends, default=None)):
            if row.incarnation >= newest:
                newest = row.incarnation
                if row.step > after:
                    steps.append(row)
        if not ends or len(steps) >= most:
            break
        position = min(ends)
    return _Page(
        steps=steps[:most],
        more=bool(ends) or len(steps) > most,
        names=dict.fromkeys(name for page in pages for name in page.names),
        # One that was never trained on has lost nothing: it must not hide what others have.
        lost=max(page.lost for page in pages),
    )


def _newest_of_each_step(
    pages: Sequence[_Page], until: int | None
) -> Iterator[run_pb2.StepMetrics]:
    """By step, up to `until`."""
    best: dict[int, run_pb2.StepMetrics] = {}
    for page in pages:
        for row in page.steps:
            known = best.get(row.step)
            if known is None or row.incarnation > known.incarnation:
                best[row.step] = row
    for step in sorted(best):
        if until is None or step <= until:
            yield best[step]
