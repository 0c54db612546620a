"""What `Engine` hears of its loop: counted, handed to loggers, decided on."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from trainerd.actors.callbacks.runner import CallbackFailure
from trainerd.actors.loggers.fan_out import Loggers
from trainerd.actors.loggers.logger import Field
from trainerd.actors.reports import (
    Controls,
    Fault,
    FaultClass,
    FinishReason,
    Judgement,
    Phase,
    RollbackRecord,
    SaveRecord,
    StepRecord,
    Verdict,
)

_log = structlog.get_logger("trainerd.engine")

STEP_ERROR = "training/step_error"
_STEP_ERRORS = (FaultClass.STEP_EXCEPTION, FaultClass.DEVICE_OOM, FaultClass.DEVICE_ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """After how many failed saves in a row, or seconds of training without a durable checkpoint,
    a run is ended; None: never."""

    max_failures: int | None = None
    max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Noted:
    fault: Fault


class FitReporter:
    """Implements `reports.Reporter` for a run without a supervisor: every question ends it.

    Loggers are called from the loop's thread alone: what a background save reports waits for the
    next report from there.
    """

    def __init__(
        self,
        loggers: Loggers,
        controls: Controls,
        patience: Patience,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loggers, self._controls = loggers, controls
        self._patience, self._clock = patience, clock
        self._durable_s: float | None = None
        self._background: queue.SimpleQueue[SaveRecord | Fault | _Noted] = queue.SimpleQueue()
        self._unsaved = 0
        self.errors: Counter[str] = Counter()
        self.saves = 0
        self.save_failure: Fault | None = None
        self.gave_up = False

    def entered(self, phase: Phase, step: int) -> None:  # noqa: ARG002
        """A phase began."""
        self.catch_up()

    def slots_fixed(self, slots: int) -> None:
        """The number of slots was chosen."""

    def restored(self, step: int, batch: int, source: str) -> None:
        """The state was restored or made."""
        if source != "init":
            fields: dict[str, Field] = {"batch": batch, "checkpoint": source}
            self._loggers.event(step, "training/restored", fields)
            _log.info("restored", step=step, **fields)

    def stepped(self, record: StepRecord) -> None:
        """A batch has landed."""
        self.catch_up()
        now = self._clock()
        if self._durable_s is None:
            # Before anything was trained nothing could be durable.
            self._durable_s = now
        self._judge_age(record.step, now - self._durable_s)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Loggers hear of it from the loop's hooks."""

    def saved(self, record: SaveRecord) -> None:
        """A checkpoint is durable. From any thread."""
        self._background.put(record)

    def faulted(self, fault: Fault) -> None:
        """A fault that was handled, or that does not stop training. From any thread."""
        if fault.fault_class in (FaultClass.CHECKPOINT_SAVE_FAILED, FaultClass.CHECKPOINT_CORRUPT):
            self._background.put(fault)
        else:
            self._tell(fault, "warning")

    def noted(self, fault: Fault) -> None:
        """A fault that a callback reports, such as a save of its own. From any thread."""
        self._background.put(_Noted(fault))

    def decide(self, fault: Fault) -> Judgement:
        """Nobody is there to ask."""
        self.catch_up()
        self._tell(fault, "error")
        return Judgement(verdict=Verdict.FAIL)

    def rolled_back(self, record: RollbackRecord) -> None:
        """Nobody can ask for that."""

    def callback_failed(self, failure: CallbackFailure) -> None:
        """A callback raised; its runner has written the log line."""
        self.errors["callback"] += 1
        fields = {"callback": failure.callback, "hook": failure.hook, "message": failure.message}
        self._loggers.event(failure.step, "training/callback_error", fields)

    def paused(self, step: int) -> None:
        """Nobody can ask for that."""

    def resumed(self, step: int) -> None:
        """Nobody can ask for that."""

    def catch_up(self) -> None:
        """Tell the loggers what has happened in the background. From the loop's thread."""
        while not self._background.empty():
            match self._background.get_nowait():
                case SaveRecord() as record:
                    self.saves += 1
                    self._unsaved = 0
                    self._durable_s = self._clock()
                    told: dict[str, Field] = {"path": record.path}
                    self._loggers.event(record.step, "training/checkpoint_saved", told)
                case _Noted(fault):
                    self._tell(fault, "warning")
                case Fault() as fault:
                    self._tell(fault, "warning")
                    if fault.fault_class is FaultClass.CHECKPOINT_SAVE_FAILED:
                        self._count_unsaved(fault)

    def _count_unsaved(self, fault: Fault) -> None:
        self._unsaved += 1
        self.save_failure = fault
        limit = self._patience.max_failures
        if limit is not None and self._unsaved >= limit:
            self._give_up()

    def _judge_age(self, step: int, age_s: float) -> None:
        """By the clock, for a save that does not end does not fail either."""
        limit_s = self._patience.max_age_s
        if limit_s is None or age_s < limit_s or self.gave_up:
            return
        self.save_failure = Fault(
            fault_class=FaultClass.CHECKPOINT_SAVE_FAILED,
            message=f"no durable checkpoint for {age_s:.0f} s, limit {limit_s:g} s",
            step=step,
            phase=Phase.STEP,
            reason="timeout",
        )
        self._give_up()

    def _give_up(self) -> None:
        self.gave_up = True
        self._controls.stop(FinishReason.STOPPED, save=False)

    def _tell(self, fault: Fault, level: str) -> None:
        """The event first, then the log line; what the loop does about it comes after both."""
        self.errors[fault.fault_class.value] += 1
        fields: dict[str, Field] = {
            "class": fault.fault_class.value,
            "error_type": fault.error_type,
            "message": fault.message,
            "batch": fault.batch,
            "action": fault.delegated.value if fault.delegated else "none",
        }
        name = f"training/{fault.fault_class.value}"
        if fault.phase is Phase.EVALUATE:
            name = "training/evaluation_error"
        elif fault.fault_class in _STEP_ERRORS:
            name = STEP_ERROR
        self._loggers.event(fault.step, name, fields)
        write = _log.error if level == "error" else _log.warning
        write(name, step=fault.step, suggestion=fault.suggestion, **fields)
