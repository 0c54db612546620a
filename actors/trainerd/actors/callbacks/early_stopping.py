"""Ends a run whose metric has stopped improving."""

from __future__ import annotations

import math
from typing import final

import structlog

from trainerd.actors.callbacks.access import StateAccess
from trainerd.actors.callbacks.callback import Callback
from trainerd.actors.callbacks.monitored import (
    Mode,
    Unit,
    better,
    checked_count,
    checked_mode,
    checked_unit,
    worst,
)
from trainerd.actors.callbacks.state import CallbackSignal, TrainingState
from trainerd.actors.errors import TrainingError

_log = structlog.get_logger("trainerd.callbacks")


@final
class EarlyStopping(Callback):
    """Answers STOP after `patience` observations in a row without an improvement.

    An observation is an end of an epoch (`unit="step"`: of a step) at which `monitor` is among the
    metrics; where it is not, nothing is observed and no patience is spent. An improvement is
    strict: `mode="min"`: value < best - min_delta; `"max"`: value > best + min_delta. The first
    finite value always is one; NaN and infinities never are, and cost patience.

    `restore_best` keeps a host copy of the train state at each improvement and asks the loop for
    it at the end; see `StateAccess.restore`. With `unit="step"` every step then comes to rest.
    Each run begins afresh. Raises ValueError for impossible arguments.
    """

    def __init__(
        self,
        monitor: str,
        *,
        patience: int,
        min_delta: float = 0.0,
        mode: Mode = "min",
        restore_best: bool = False,
        unit: Unit = "epoch",
    ) -> None:
        if not isinstance(monitor, str) or not monitor:
            raise ValueError(f"monitor must name a metric, got {monitor!r}")
        checked_count("patience", patience)
        checked_mode(mode)
        checked_unit(unit)
        if not (math.isfinite(min_delta) and min_delta >= 0):
            raise ValueError(f"min_delta must be finite and ≥ 0, got {min_delta!r}")
        self._monitor, self._patience, self._min_delta = monitor, patience, float(min_delta)
        self._mode, self._restore_best, self._unit = mode, restore_best, unit
        self._access: StateAccess | None = None
        self._best, self._best_step = worst(mode), -1
        self._spent, self._stopped_step = 0, -1
        self._kept: object | None = None

    @property
    def best(self) -> float:
        """The best value so far; +inf (`min`) or -inf (`max`) before the first."""
        return self._best

    @property
    def best_step(self) -> int:
        """The step of the best value; -1 before the first."""
        return self._best_step

    @property
    def spent(self) -> int:
        """Observations since the last improvement."""
        return self._spent

    @property
    def stopped_step(self) -> int:
        """The step at which it answered STOP; -1: it has not."""
        return self._stopped_step

    def attach(self, access: StateAccess) -> None:
        """Take the access that `restore_best` needs."""
        self._access = access

    def needs_rest(self, step: int) -> bool:  # noqa: ARG002
        """Whether a step may become the best one."""
        return self._restore_best and self._unit == "step"

    def on_train_begin(self, state: TrainingState) -> None:  # noqa: ARG002
        """Forget an earlier run."""
        self._best, self._best_step = worst(self._mode), -1
        self._spent, self._stopped_step = 0, -1
        self._kept = None
        if self._restore_best and self._access is None:
            raise TrainingError(
                "EarlyStopping(restore_best=True) needs a loop that lends it the train state",
                suggestion="call attach() with one, or leave restore_best out",
            )

    def on_epoch_end(self, state: TrainingState) -> CallbackSignal:
        """Observe, where epochs are observed."""
        return self._observe(state) if self._unit == "epoch" else CallbackSignal.CONTINUE

    def on_step_end(self, state: TrainingState) -> CallbackSignal:
        """Observe, where steps are observed."""
        return self._observe(state) if self._unit == "step" else CallbackSignal.CONTINUE

    def on_train_end(self, state: TrainingState) -> None:
        """Ask for the best state."""
        kept, self._kept = self._kept, None
        if kept is not None and self._access is not None and self._best_step != state.step:
            self._access.restore(kept)

    def _observe(self, state: TrainingState) -> CallbackSignal:
        value = state.metrics.get(self._monitor)
        if value is None:
            return CallbackSignal.CONTINUE
        if better(value, self._best, self._mode, self._min_delta):
            # First the copy: a best value whose state is not held would be a lie.
            if self._restore_best and self._access is not None:
                self._kept = self._access.capture()
            self._best, self._best_step, self._spent = value, state.step, 0
            return CallbackSignal.CONTINUE
        self._spent += 1
        if self._spent < self._patience:
            return CallbackSignal.CONTINUE
        self._stopped_step = state.step
        _log.info(
            "early stopping",
            monitor=self._monitor,
            step=state.step,
            best=self._best,
            best_step=self._best_step,
            patience=self._patience,
        )
        return CallbackSignal.STOP
