"""When a loss counts as a spike: a threshold from the losses of earlier updates.

The threshold is the median plus `z` times the median absolute deviation. It is computed on the
host while a step is in flight, so the loss of the update just before is never part of it; that
holds as well where no step is in flight, or a run that paused there would judge otherwise.
"""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainerd.actors.errors import PlanError

LONGEST_HISTORY = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """A loss above median + `z` · MAD of the last `history` losses is a spike.

    None is before `min_history` losses are known, nor where more than half of them are equal:
    without spread there is no scale to judge by.
    """

    z: float = 10.0
    min_history: int = 32
    history: int = 128

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.z < math.inf:
            problems.append(f"z must be a finite number > 0, got {self.z}")
        if self.min_history < 2:
            problems.append(f"min_history must be ≥ 2, got {self.min_history}")
        if not self.min_history <= self.history <= LONGEST_HISTORY:
            problems.append(
                f"history must be from min_history {self.min_history} to {LONGEST_HISTORY}, "
                f"got {self.history}"
            )
        if problems:
            raise PlanError("a spike's " + "; ".join(problems))

    def limit(self, losses: Sequence[float]) -> float:
        """Return the threshold that finite `losses` give; infinity where there is none."""
        if len(losses) < self.min_history:
            return math.inf
        middle = statistics.median(losses)
        spread = statistics.median(abs(loss - middle) for loss in losses)
        return middle + self.z * spread if spread > 0 else math.inf


class LossHistory:
    """The losses of the newest applied updates. Owned by the loop.

    Losses of steps that were not applied are no part of it: a run whose ledger leaves their
    batches out must come to the same thresholds.
    """

    def __init__(self, spike: Spike, losses: Iterable[float] = ()) -> None:
        self.spike = spike
        self._losses: collections.deque[float] = collections.deque(maxlen=spike.history + 1)
        self._limits = (math.inf, math.inf)
        self._losses.extend(loss for loss in losses if math.isfinite(loss))
        self._limits = (self.spike.limit(list(self._losses)[:-1]), self._newest_limit())

    @property
    def losses(self) -> tuple[float, ...]:
        """All that a later threshold depends on, oldest first; for a checkpoint."""
        return tuple(self._losses)

    @property
    def limits(self) -> tuple[float, float]:
        """The thresholds of the next update and of the one after it."""
        return self._limits

    def add(self, loss: float) -> None:
        """Take the loss of an applied update; one that is not finite changes nothing."""
        if not math.isfinite(loss):
            return
        self._losses.append(loss)
        self._limits = (self._limits[1], self._newest_limit())

    def _newest_limit(self) -> float:
        return self.spike.limit(list(self._losses)[-self.spike.history :])
