"""How often a snapshot is worth its cost, from what it costs, what a step takes and how often the
run crashes."""

from __future__ import annotations

import collections
import math
import statistics

HEALTHY_SHARE = 0.01
"""Most of the time that snapshots may take of a run that does not crash."""
CRASHING_SHARE = 0.05
"""Most of the time that they may take of any run."""

_COSTS = 7
_STEPS = 31
_FIRST_STEPS = 5


def every_steps(*, cost_s: float, step_s: float, crash_every_s: float = 0.0) -> int:
    """Return after how many steps of `step_s` seconds to take a snapshot that costs `cost_s`.

    Without crashes (`crash_every_s` 0) as often as `HEALTHY_SHARE` allows. With one every
    `crash_every_s` seconds the time between two snapshots is √(2 · cost · crash_every_s), at which
    the cost of snapshots and the work lost to crashes add up to least (J. W. Young, 1974, and
    J. T. Daly, 2006, first order), unless that takes more than `CRASHING_SHARE`; it is never longer
    than without crashes.

    Raises ValueError unless `cost_s` and `crash_every_s` are ≥ 0 and `step_s` > 0, all finite.
    """
    for name, value in (("cost_s", cost_s), ("crash_every_s", crash_every_s)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be ≥ 0 and finite, got {value}")
    if not 0 < step_s < math.inf:
        raise ValueError(f"step_s must be > 0 and finite, got {step_s}")
    every_s = cost_s / HEALTHY_SHARE
    if crash_every_s > 0:
        best_s = math.sqrt(2 * cost_s * crash_every_s)
        every_s = min(every_s, max(best_s, cost_s / CRASHING_SHARE))
    return max(1, math.ceil(every_s / step_s))


class Pace:
    """The interval between snapshots, chosen anew as costs and steps are measured.

    `expected_cost_s` counts until a snapshot's cost is known. Medians of the newest measurements
    are used, so that a single slow step or copy changes nothing.
    """

    def __init__(self, *, expected_cost_s: float, crash_every_s: float = 0.0) -> None:
        self._crash_every_s = crash_every_s
        self._costs_s = collections.deque([expected_cost_s], maxlen=_COSTS)
        self._measured = False
        self._steps_s: collections.deque[float] = collections.deque(maxlen=_STEPS)
        self._every = 0

    @property
    def every(self) -> int:
        """Steps between two snapshots; 0: too few steps are measured to say."""
        if self._every == 0 and len(self._steps_s) >= _FIRST_STEPS:
            self._choose()
        return self._every

    def stepped(self, duration_s: float) -> None:
        """A step took so long."""
        self._steps_s.append(duration_s)

    def took(self, cost_s: float) -> None:
        """A snapshot cost the run so long."""
        if not self._measured:
            self._measured = True
            self._costs_s.clear()
        self._costs_s.append(cost_s)
        self._choose()

    def _choose(self) -> None:
        if self._steps_s:
            self._every = every_steps(
                cost_s=statistics.median(self._costs_s),
                # A clock may not see what the shortest steps take.
                step_s=max(statistics.median(self._steps_s), 1e-6),
                crash_every_s=self._crash_every_s,
            )
