"""Saves the model while it trains: every so often, or when it has become better."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import structlog

from trainerd.actors.callbacks.access import StateAccess, StateSaver
from trainerd.actors.callbacks.callback import Callback
from trainerd.actors.callbacks.errors import SaveError
from trainerd.actors.callbacks.monitored import (
    Mode,
    Unit,
    better,
    checked_count,
    checked_mode,
    checked_unit,
    worst,
)
from trainerd.actors.callbacks.path_template import PathTemplate
from trainerd.actors.callbacks.save_failure import explained, metric_missing, no_saver
from trainerd.actors.callbacks.state import CallbackSignal, TrainingState
from trainerd.actors.reports import Fault, FaultClass, Phase

_log = structlog.get_logger("trainerd.callbacks")

_ERRORS = "checkpoint/save_errors"


@dataclass(slots=True, kw_only=True)
class _Save:
    """A save in flight: where, of which step, and the watched metric's value there."""

    path: Path
    step: int
    value: float | None
    ended: bool = False
    overdue: bool = False


@final
class ModelCheckpoint(Callback):
    """Saves the train state to the path that `path_template` makes, through the loop's saver.

    | argument | meaning |
    |---|---|
    | `path_template` | see `PathTemplate`; a path that comes again is replaced |
    | `monitor`, `mode` | the metric whose best value is tracked, and which end of it is best |
    | `save_best_only` | save only where `monitor` is strictly better than at the last commit |
    | `every`, `unit` | save at every `every`-th end of an epoch, or of a step |
    | `initial_best` | the value to beat at first: give the last one when a run is continued |
    | `stop_after_errors` | answer STOP after so many failures in a row; None: never |
    | `wait_s` | how long a save waits for the one before it, and `on_train_end` for the last |
    | `saver` | for a loop of your own, such as an `OrbaxSaver`; else the loop's is used |

    A save runs in the background. One that falls due while another is in flight waits for it: no
    checkpoint is left out in silence. `save_count` and `best` change only when a save is
    committed. A save that fails, and one that is due but lacks a metric, adds one to
    `error_count`, sets `last_error`, is logged and reported as a fault with path and cause, and
    training goes on; the count then stands in the metric `checkpoint/save_errors`. A monitored
    value that is not finite is no error and never the best.

    Raises ValueError for impossible arguments.
    """

    def __init__(
        self,
        path_template: str,
        *,
        monitor: str | None = None,
        mode: Mode = "min",
        save_best_only: bool = False,
        every: int = 1,
        unit: Unit = "epoch",
        initial_best: float | None = None,
        stop_after_errors: int | None = None,
        wait_s: float = 600.0,
        saver: StateSaver | None = None,
    ) -> None:
        self._template = PathTemplate(path_template)
        checked_mode(mode)
        checked_unit(unit)
        checked_count("every", every)
        if stop_after_errors is not None:
            checked_count("stop_after_errors", stop_after_errors)
        if not wait_s > 0:
            raise ValueError(f"wait_s must be > 0, got {wait_s!r}")
        if monitor is not None and not monitor:
            raise ValueError(f"monitor must name a metric, got {monitor!r}")
        if save_best_only and monitor is None:
            raise ValueError("save_best_only needs a metric to judge by: give monitor")
        self._monitor, self._mode, self._save_best_only = monitor, mode, save_best_only
        self._every, self._unit = every, unit
        self._stop_after_errors, self._wait_s = stop_after_errors, wait_s
        self._saver, self._own_saver = saver, saver is not None
        self._access: StateAccess | None = None
        self._changed = threading.Condition()
        self._in_flight: _Save | None = None
        self._last_step = -1
        self._best = worst(mode) if initial_best is None else float(initial_best)
        self._best_path: Path | None = None
        self._save_count = self._error_count = self._errors_in_a_row = 0
        self._last_error: SaveError | None = None

    @property
    def save_count(self) -> int:
        """Committed saves."""
        with self._changed:
            return self._save_count

    @property
    def error_count(self) -> int:
        """Saves that were due and are not on disk."""
        with self._changed:
            return self._error_count

    @property
    def last_error(self) -> SaveError | None:
        """Why the newest failure was one."""
        with self._changed:
            return self._last_error

    @property
    def best(self) -> float:
        """The best monitored value that is on disk; ±inf before the first."""
        with self._changed:
            return self._best

    @property
    def best_path(self) -> Path | None:
        """Where the best one was saved."""
        with self._changed:
            return self._best_path

    def attach(self, access: StateAccess) -> None:
        """Save through the loop, unless a saver was given."""
        self._access = access
        if not self._own_saver:
            self._saver = access

    def needs_rest(self, step: int) -> bool:
        """Whether the end of `step` may save."""
        return self._unit == "step" and step % self._every == 0

    def on_train_begin(self, state: TrainingState) -> None:
        """Remember where the run begins: that step was saved by whoever reached it."""
        self._last_step = state.step

    def on_epoch_end(self, state: TrainingState) -> CallbackSignal:
        """Save, if it is this epoch's turn."""
        if self._unit == "epoch" and (state.epoch + 1) % self._every == 0:
            self._save(state)
        return self._signal(state)

    def on_step_end(self, state: TrainingState) -> CallbackSignal:
        """Save, if it is this step's turn. A skipped batch does not make it a second time."""
        if self._unit == "step" and state.step % self._every == 0 and state.step > 0:
            if state.step != self._last_step:
                self._save(state)
            self._last_step = state.step
        return self._signal(state)

    def on_train_end(self, state: TrainingState) -> None:
        """See the save in flight through."""
        self._wait_for_the_last()
        self._signal(state)

    def _save(self, state: TrainingState) -> None:
        """Begin to save what is due; whatever is in the way is counted, never raised."""
        metrics = dict(state.metrics)
        value = None if self._monitor is None else metrics.get(self._monitor)
        missing = [name for name in self._template.metrics if name not in metrics]
        if self._save_best_only:
            if value is None:
                missing.insert(0, str(self._monitor))
            elif not better(value, self.best, self._mode):
                return
        free = self._wait_for_the_last()
        # The one that was in flight may have been better still.
        if self._save_best_only and value is not None and not better(value, self.best, self._mode):
            return
        if missing:
            self._failed(
                state.step,
                metric_missing(
                    missing[0], template=str(self._template), step=state.step, there=[*metrics]
                ),
            )
            return
        path = self._template.fill(
            epoch=state.epoch,
            step=state.step,
            learning_rate=state.learning_rate,
            metrics=metrics,
        )
        if not free:
            late = TimeoutError("the save before it is still in flight")
            self._failed(state.step, explained(late, path=path, step=state.step))
        elif self._saver is None:
            self._failed(state.step, no_saver(path=path, step=state.step))
        else:
            self._begin(self._saver, _Save(path=path, step=state.step, value=value))

    def _begin(self, saver: StateSaver, save: _Save) -> None:
        with self._changed:
            self._in_flight = save
        try:
            saver.save(save.path, partial(self._done, save))
        except Exception as error:
            self._done(save, error)
        except BaseException:
            # Interrupted: nobody knows whether the save goes on, so nobody waits for it.
            self._forget(save)
            raise

    def _done(self, save: _Save, error: Exception | None) -> None:
        """Book how a save ended. From any thread; only the first answer counts."""
        with self._changed:
            if save.ended:
                return
            save.ended = True
            if error is None:
                self._save_count += 1
                self._errors_in_a_row = 0
                if save.value is not None and better(save.value, self._best, self._mode):
                    self._best, self._best_path = save.value, save.path
        try:
            if error is not None:
                self._failed(save.step, explained(error, path=save.path, step=save.step))
        finally:
            # Only now: whoever waits for the save is to find it booked and reported.
            self._forget(save)

    def _forget(self, save: _Save) -> None:
        with self._changed:
            if self._in_flight is save:
                self._in_flight = None
            self._changed.notify_all()

    def _wait_for_the_last(self) -> bool:
        """Wait until no save is in flight; False, and a failure once, if that takes too long."""
        with self._changed:
            save = self._in_flight
            if save is None:
                return True
            if save.overdue:
                return False
            if self._changed.wait_for(lambda: self._in_flight is None, self._wait_s):
                return True
            save.overdue = True
        late = TimeoutError(f"still not on disk after {self._wait_s:g} s")
        self._failed(save.step, explained(late, path=save.path, step=save.step))
        return False

    def _failed(self, step: int, error: SaveError) -> None:
        with self._changed:
            self._error_count += 1
            self._errors_in_a_row += 1
            self._last_error = error
            count = self._error_count
        _log.warning(
            "checkpoint not saved",
            step=step,
            path=error.path,
            reason=error.reason,
            error=error.message,
            suggestion=error.suggestion,
            count=count,
        )
        if self._access is not None:
            self._access.faulted(
                Fault(
                    fault_class=FaultClass.CHECKPOINT_SAVE_FAILED,
                    message=error.message,
                    suggestion=error.suggestion,
                    step=step,
                    phase=Phase.SAVE,
                    reason=error.reason,
                )
            )

    def _signal(self, state: TrainingState) -> CallbackSignal:
        with self._changed:
            errors, in_a_row = self._error_count, self._errors_in_a_row
        if errors:
            # Another checkpoint of this run may have more.
            known = state.metrics.get(_ERRORS, 0.0)
            state.metrics[_ERRORS] = max(known, errors)
        limit = self._stop_after_errors
        if limit is None or in_a_row < limit:
            return CallbackSignal.CONTINUE
        _log.error(
            "stopping: checkpoints cannot be saved", step=state.step, failed=in_a_row, limit=limit
        )
        return CallbackSignal.STOP
