"""One call of `Engine.fit`: from a piece of work to a state and a result, or a typed error."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from trainerd.actors.digest import state_digest
from trainerd.actors.errors import CheckpointError, EngineError, TrainingError
from trainerd.actors.faults import classify
from trainerd.actors.fit_reporter import FitReporter, Patience
from trainerd.actors.fit_result import EndReason, FitResult
from trainerd.actors.hooks import Audience
from trainerd.actors.loggers.logger import Field
from trainerd.actors.reports import Controls, Fault, FaultClass, FinishReason, Phase, Result
from trainerd.actors.signals import SignalWatch
from trainerd.actors.stage import Stage
from trainerd.actors.state import PyTree
from trainerd.actors.surroundings import Ending, Surroundings

_log = structlog.get_logger("trainerd.engine")

_PREPARING = (Phase.INIT, Phase.RESTORE, Phase.COMPILE)

Conductor = Callable[[Surroundings], Ending]


class Fitting:
    """Runs one loop for a person: watches signals, says how it ended, raises what is to be raised.

    `result` and `state` are set however it ends; `state` None: it is lost.
    """

    def __init__(self, audience: Audience, *, durable: bool, patience: Patience) -> None:
        self.controls = Controls()
        self.reporter = FitReporter(audience.loggers, self.controls, patience)
        self.watch = SignalWatch(self.controls)
        self._audience = Audience(
            callbacks=audience.callbacks,
            on_error=audience.on_error,
            failed=self.reporter.callback_failed,
            faulted=self.reporter.noted,
            loggers=audience.loggers,
        )
        self._durable = durable
        self._logging_failures = audience.loggers.error_count
        self.result: FitResult | None = None
        self.state: PyTree | None = None

    def run(self, conduct: Conductor, *, start_step: int, lenient: bool) -> PyTree:
        """Train; return the final state, or raise what ended the run."""
        around = Surroundings(
            reporter=self.reporter,
            controls=self.controls,
            stage=Stage(self.reporter),
            audience=self._audience,
            clock=time.monotonic,
            lenient=lenient,
            interrupts=(KeyboardInterrupt,),
        )
        with self.watch.installed():
            try:
                ending = conduct(around)
            except TrainingError:
                raise
            except Exception as error:
                if around.stage.phase not in _PREPARING:
                    raise
                # The user's functions were called or traced.
                fault = classify(error, phase=around.stage.phase, step=0, state_intact=True)
                self.reporter.decide(fault)
                raise EngineError(
                    f"the program could not be prepared: {fault.message}",
                    suggestion=fault.suggestion,
                    detail=fault.detail,
                ) from error
            raised = self._close(ending, start_step)
        if raised is not None:
            # Its own cause stays: `from None` would hide it, `from` another would replace it.
            raise raised
        return ending.state

    def _close(self, ending: Ending, start_step: int) -> BaseException | None:
        """Book the ending; return what is to be raised."""
        self.reporter.catch_up()
        raised = self._raised(ending, start_step)
        result = ending.result
        self.state = ending.state
        self.result = FitResult(
            reason=self._reason(ending, raised),
            steps=result.step - start_step,
            batches=result.batches,
            masked_slots=result.masked_slots,
            skipped_batches=result.skipped_batches,
            errors=self._errors(),
            loss=result.loss,
            state_digest=self._digest(ending),
            durable=result.durable,
            checkpoint=result.checkpoint,
            saves=self.reporter.saves,
            stopped_by=ending.stopped_by,
        )
        if isinstance(raised, (KeyboardInterrupt, SystemExit)):
            self._tell_interrupt(raised, result)
        return raised

    def _raised(self, ending: Ending, start_step: int) -> BaseException | None:
        if ending.raised is not None:
            # A handler that finds the loop waiting for data raises KeyboardInterrupt for both.
            return self.watch.exception() or ending.raised
        if ending.fault is not None:
            return _failure(ending.fault, ending.cause, ending.why)
        if ending.result.reason is FinishReason.PREEMPTED:
            return self.watch.exception() or EngineError("the run was stopped")
        if self.reporter.gave_up or (self._durable and not ending.result.durable):
            return self._unsaved(ending.result)
        if ending.result.step == start_step and not ending.stopped_by:
            return _nothing_applied(ending.result)
        return None

    def _reason(self, ending: Ending, raised: BaseException | None) -> EndReason:
        if isinstance(raised, (KeyboardInterrupt, SystemExit)):
            return EndReason.INTERRUPTED
        if raised is not None:
            return EndReason.FAILED
        if ending.stopped_by:
            return EndReason.STOPPED_BY_CALLBACK
        ended = ending.result.reason is FinishReason.DATA_ENDED
        return EndReason.DATA_ENDED if ended else EndReason.STEPS_REACHED

    def _errors(self) -> dict[str, int]:
        errors = dict(self.reporter.errors)
        if logging := self._audience.loggers.error_count - self._logging_failures:
            errors["logging"] = logging
        return errors

    def _unsaved(self, result: Result) -> CheckpointError:
        failure = self.reporter.save_failure
        why = f": {failure.message}" if failure else ""
        what = "saving was given up" if self.reporter.gave_up else "the last state is not on disk"
        return CheckpointError(
            f"{what} at step {result.step}{why}",
            suggestion="engine.state holds it; make the directory writable and save it, or train "
            "without checkpoints",
        )

    def _digest(self, ending: Ending) -> str:
        if ending.state is None:
            return ""
        return ending.result.state_digest if ending.own_state else state_digest(ending.state)

    def _tell_interrupt(self, raised: BaseException, result: Result) -> None:
        received = self.watch.received
        fields: dict[str, Field] = {
            "signal": received.name if received else type(raised).__name__,
            "saved": int(result.durable),
            "checkpoint": result.checkpoint,
        }
        self._audience.loggers.event(result.step, "training/interrupted", fields)
        _log.warning("training/interrupted", step=result.step, **fields)


def _failure(fault: Fault, cause: BaseException | None, why: str) -> BaseException:
    """What a fault that nobody may decide on is raised as."""
    if isinstance(cause, TrainingError):
        return cause
    said = fault.message
    if cause is not None:
        said = f"{cause} ({why})" if why else f"{cause}"
    suggestion = fault.suggestion
    if fault.phase is Phase.EVALUATE:
        what = "validation failed"
    elif fault.fault_class in (FaultClass.NON_FINITE_STEP, FaultClass.NON_FINITE_MICROBATCH):
        what = "training is not finite"
        suggestion = suggestion or "look at the data and the learning rate"
    else:
        what = "step execution failed"
        suggestion = suggestion or _step_suggestion(fault)
    error = EngineError(
        f"{what} at step {fault.step}: {said}", suggestion=suggestion, detail=fault.detail
    )
    error.__cause__ = cause
    return error


def _step_suggestion(fault: Fault) -> str:
    if not fault.state_intact:
        return "the state was lost with it: resume from the last checkpoint"
    return "mend step_fn, or pass continue_on_error=True to skip such batches"


def _nothing_applied(result: Result) -> EngineError:
    return EngineError(
        f"no update was applied: {result.batches} batches were attempted, "
        f"{result.skipped_batches} of them skipped",
        suggestion="see the errors logged for each of them",
    )
