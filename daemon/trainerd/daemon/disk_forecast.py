"""When a disk will be full, from what was free after the newest saves. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

NEVER = math.inf
_LEAST = 3


def full_at(samples: Sequence[tuple[float, float]]) -> float:
    """The time at which nothing is free any more, on the line of least squares through `samples`.

    They are (time in seconds, free bytes), oldest first. Infinity: free space does not shrink, or
    there are fewer than three to tell by. Never before the newest sample.
    """
    if len(samples) < _LEAST:
        return NEVER
    count = len(samples)
    mean_s = sum(time for time, _ in samples) / count
    mean_free = sum(free for _, free in samples) / count
    spread = sum((time - mean_s) ** 2 for time, _ in samples)
    if spread <= 0:
        return NEVER
    slope = sum((time - mean_s) * (free - mean_free) for time, free in samples) / spread
    newest_s, newest_free = samples[-1]
    # Less than a byte a second is the noise of the sums themselves.
    if slope > -1.0:
        return NEVER
    return newest_s + newest_free / -slope
