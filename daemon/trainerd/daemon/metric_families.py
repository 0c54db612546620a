"""Makes metrics, and knows which of their series are of a run."""

from __future__ import annotations

from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_Metric = TypeVar("_Metric", Gauge, Counter, Histogram)


class Families:
    """Metrics whose names begin with `trainerd_`, in one registry.

    `lasting`: those that say what became of a run; they are kept for longer than the others.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._lasting: list[Gauge | Counter | Histogram] = []
        self._passing: list[Gauge | Counter | Histogram] = []

    def gauge(self, name: str, text: str, *labels: str, lasting: bool = False) -> Gauge:
        """Something that rises and falls."""
        made = Gauge(f"trainerd_{name}", text, labels, registry=self._registry)
        return self._kept(made, labels, lasting)

    def counter(self, name: str, text: str, *labels: str, lasting: bool = False) -> Counter:
        """Something that only rises; `_total` is added to its name."""
        made = Counter(f"trainerd_{name}", text, labels, registry=self._registry)
        return self._kept(made, labels, lasting)

    def histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        """How often something took at most so long, for each of the buckets."""
        name = f"trainerd_{name}"
        made = Histogram(name, text, labels, registry=self._registry, buckets=buckets)
        return self._kept(made, labels, False)

    def settle(self, run: str) -> None:
        """Remove the series of a run but the lasting ones."""
        for metric in self._passing:
            metric.remove_by_labels({"run": run})

    def forget(self, run: str) -> None:
        """Remove every series of a run."""
        self.settle(run)
        for metric in self._lasting:
            metric.remove_by_labels({"run": run})

    def _kept(self, metric: _Metric, labels: tuple[str, ...], lasting: bool) -> _Metric:
        if "run" in labels:
            (self._lasting if lasting else self._passing).append(metric)
        return metric
