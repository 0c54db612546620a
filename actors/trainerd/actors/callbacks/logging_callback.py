"""Hands a run's metrics to loggers and remembers them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from trainerd.actors.callbacks.callback import Callback
from trainerd.actors.callbacks.monitored import checked_count
from trainerd.actors.callbacks.state import TrainingState
from trainerd.actors.loggers.fan_out import Loggers
from trainerd.actors.loggers.logger import Logger


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedMetrics:
    """The metrics of one event: `learning_rate` is the one that `step` was applied with."""

    epoch: int
    step: int
    learning_rate: float
    metrics: Mapping[str, float]


@final
class LoggingCallback(Callback):
    """Logs every `every`-th step and the end of every epoch, and keeps what it logged.

    The learning rate is logged with the metrics, under `learning_rate`, where it is known. A
    logger that fails is dealt with as `Loggers` says; hand over a `Loggers(…, strict=True)` to be
    told. Loggers are closed by whoever made them. None: nothing is written, only remembered.

    `keep` bounds the history, in events: the oldest go first. None keeps all, at about 350 bytes
    an event and 100 a metric: a million steps of five metrics are 0.8 GB, so bound long runs.
    Raises ValueError for `every` or `keep` below 1.
    """

    def __init__(
        self, logger: Logger | None = None, *, every: int = 1, keep: int | None = None
    ) -> None:
        checked_count("every", every)
        if keep is not None:
            checked_count("keep", keep)
        match logger:
            case None:
                self._loggers = Loggers([])
            case Loggers():
                self._loggers = logger
            case _:
                self._loggers = Loggers([logger])
        self._every = every
        self._history: deque[LoggedMetrics] = deque(maxlen=keep)

    @property
    def history(self) -> tuple[LoggedMetrics, ...]:
        """Everything logged, oldest first, as far as `keep` allows."""
        return tuple(self._history)

    def values(self, metric: str) -> list[tuple[int, float]]:
        """Return (step, value) of every event in the history that had `metric`."""
        return [
            (event.step, event.metrics[metric])
            for event in self._history
            if metric in event.metrics
        ]

    def on_step_end(self, state: TrainingState) -> None:
        """Log, if it is this step's turn."""
        if state.step % self._every == 0:
            self._log(state)

    def on_epoch_end(self, state: TrainingState) -> None:
        """Log what is known at the end of the epoch."""
        self._log(state)

    def _log(self, state: TrainingState) -> None:
        rate = state.learning_rate
        metrics = dict(state.metrics)
        if not math.isnan(rate):
            metrics = {"learning_rate": rate} | metrics
        event = LoggedMetrics(
            epoch=state.epoch,
            step=state.step,
            learning_rate=rate,
            metrics=MappingProxyType(metrics),
        )
        # An epoch's last step may have said all there is.
        if self._history and self._history[-1] == event:
            return
        self._history.append(event)
        self._loggers.log(event.step, event.metrics)
