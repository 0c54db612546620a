"""Where the time of runs went, as Prometheus asks for it: it passes between two records too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from trainerd.daemon.supervision.activities import Activity

Spent = Callable[[str], Mapping[Activity, float]]
"""Seconds by activity of a run, now; empty: they are not known yet."""


class TimeMetrics(Collector):
    """`trainerd_time_seconds_total`. `runs`: those to show; called from the server's thread."""

    def __init__(self, runs: Callable[[], Collection[str]], spent: Spent) -> None:
        self._runs, self._spent = runs, spent

    def collect(self) -> Iterable[Metric]:
        """Every run's seconds by activity."""
        family = CounterMetricFamily(
            "trainerd_time_seconds",
            "Where the time of a run went, from its submission to its end.",
            labels=("run", "activity"),
        )
        for run in self._runs():
            for activity, seconds in self._spent(run).items():
                family.add_metric((run, activity.value), seconds)
        yield family
