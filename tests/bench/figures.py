"""Figures: medians of paired measurements, how sure they are, and whether they reach a bound."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
LEAST_PAIRS = 40
"""Fewer pairs than this show that a benchmark works; they are no result."""


class Verdict(enum.Enum):
    """What a figure says about its bound."""

    REACHED = "reached"
    WITHIN_NOISE = "within noise"
    MISSED = "missed"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a figure must lie between, both ends included."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether one number does."""
        return self.low <= value <= self.high

    def beyond(self, low: float, high: float) -> bool:
        """Whether a whole interval lies outside."""
        return low > self.high or high < self.low

    def __str__(self) -> str:
        if self.low == self.high:
            return f"= {self.low:g}"
        return f"≥ {self.low:g}" if self.high == math.inf else f"≤ {self.high:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A median with its interval from `low` to `high`, over `pairs` pairs. `bound` None: told."""

    what: str
    against: str
    unit: str
    median: float
    low: float
    high: float
    pairs: int
    bound: Bound | None = None

    @property
    def verdict(self) -> Verdict:
        """Missed only where the whole interval lies beyond the bound."""
        if self.bound is None:
            return Verdict.REPORTED
        if self.bound.holds(self.median):
            return Verdict.REACHED
        outside = self.bound.beyond(self.low, self.high)
        return Verdict.MISSED if outside else Verdict.WITHIN_NOISE


def at_most(value: float) -> Bound:
    """A bound from above."""
    return Bound(high=value)


def at_least(value: float) -> Bound:
    """A bound from below."""
    return Bound(low=value)


def interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the median of `values`; deterministic."""
    if not values:
        raise ValueError("an interval needs at least one value, got none")
    drawn = np.random.default_rng(seed).choice(
        np.asarray(values, np.float64), size=(RESAMPLES, len(values))
    )
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(drawn, axis=1), [tail, 1 - tail])
    return float(low), float(high)


def figure(
    what: str, against: str, values: Sequence[float], *, unit: str, bound: Bound | None = None
) -> Figure:
    """Make a figure of one value a pair."""
    low, high = interval(values)
    median = float(np.median(values))
    return Figure(
        what=what,
        against=against,
        unit=unit,
        median=median,
        low=low,
        high=high,
        pairs=len(values),
        bound=bound,
    )


def exact(what: str, against: str, value: float, *, bound: Bound, unit: str = "") -> Figure:
    """Make a figure that is counted and not measured: there is no noise in it."""
    return Figure(
        what=what,
        against=against,
        unit=unit,
        median=value,
        low=value,
        high=value,
        pairs=1,
        bound=bound,
    )


def exactly(value: float) -> Bound:
    """A bound from both sides."""
    return Bound(low=value, high=value)


def ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return one ratio a pair; both hold what was measured, in order, side by side."""
    return [a / b for a, b in zip(ours, others, strict=True)]


def differences(ours: Sequence[float], others: Sequence[float], *, scale: float) -> list[float]:
    """Return one difference a pair, times `scale`."""
    return [(a - b) * scale for a, b in zip(ours, others, strict=True)]


def interleave(
    runs: Mapping[str, Callable[[int], float]], *, pairs: int, steps: int
) -> dict[str, list[float]]:
    """Run all of `runs` in turn, `pairs` times over: A B A B …

    Each is called with `steps` and returns seconds a step. One round more, at the front, is
    thrown away: it compiles and warms.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(pairs + 1):
        for name, run in runs.items():
            took_s = run(steps)
            if not (took_s > 0 and math.isfinite(took_s)):
                raise ValueError(f"{name} must take a positive time, got {took_s}")
            if turn:
                taken[name].append(took_s)
    return taken
