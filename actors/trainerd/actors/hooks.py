"""What a loop tells its callbacks and loggers, and how it hears them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from trainerd.actors.callbacks.callback import Callback
from trainerd.actors.callbacks.runner import CallbackFailure, CallbackRunner, OnError
from trainerd.actors.callbacks.state import CallbackSignal, StateOwner
from trainerd.actors.loggers.fan_out import Loggers
from trainerd.actors.reports import Controls, Fault, FinishReason, StepRecord
from trainerd.actors.state_access import PipelineAccess

LEARNING_RATE = "learning_rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who is told what a loop does, beside its reporter.

    `failed` hears of callbacks that raise, `faulted` of what callbacks themselves report.
    """

    callbacks: Sequence[Callback] = ()
    on_error: OnError = "isolate"
    failed: Callable[[CallbackFailure], None] | None = None
    faulted: Callable[[Fault], None] = lambda _fault: None
    loggers: Loggers = field(default_factory=lambda: Loggers([]))


class Hooks:
    """Calls the audience of one run. Owned by the loop; called from its thread.

    A STOP of any callback becomes a request to stop like any other, so that all processes of a
    run hear of it at the same boundary.
    """

    def __init__(self, audience: Audience, access: PipelineAccess, controls: Controls) -> None:
        self._runner = CallbackRunner(
            audience.callbacks,
            on_error=audience.on_error,
            report=audience.failed,
            access=access,
        )
        self._loggers, self._controls = audience.loggers, controls
        self._owner = StateOwner()
        self._unlogged = False
        self.active = bool(audience.callbacks)

    @property
    def stopped_by(self) -> str:
        """The callback that ended the run; empty: none did."""
        return self._runner.stopped_by

    @contextmanager
    def session(self, *, step: int, loss: float) -> Iterator[None]:
        """Begin, and end exactly once, however what is inside ends."""
        self.stand(step=step, loss=loss)
        with self._runner.session(self._owner) as signal:
            self._heed(signal)
            yield

    def stand(self, *, step: int, loss: float) -> None:
        """The run stands at another state than the one that has landed last."""
        known = {"loss": loss} if math.isfinite(loss) else {}
        self._owner.update(step=step, learning_rate=math.nan, metrics=known)
        self._unlogged = False

    def needs_rest(self, step: int) -> bool:
        """Whether a callback wants the state of `step` at rest."""
        return self.active and self._runner.needs_rest(step)

    def epoch_begins(self, epoch: int) -> None:
        """The first batch of `epoch` that this process trains on is next."""
        self._owner.update(epoch=epoch)
        self._heed(self._runner.epoch_begin(self._owner))

    def epoch_ends(self) -> None:
        """The epoch is over; the state is at rest."""
        self._heed(self._runner.epoch_end(self._owner))

    def step_begins(self) -> bool:
        """A batch is about to be dispatched. False: a callback says that it should not be."""
        if not self.active:
            return True
        signal = self._runner.step_begin(self._owner)
        self._heed(signal)
        return signal is CallbackSignal.CONTINUE

    def landed(self, record: StepRecord) -> None:
        """Set the numbers that callbacks see. A step that was not applied has none."""
        metrics: dict[str, float] = {}
        rate = math.nan
        if record.applied:
            metrics = {"loss": record.loss, "gradient_norm": record.gradient_norm, **record.metrics}
            rate = metrics.pop(LEARNING_RATE, math.nan)
            # Whoever trains with a function of his own need not say what these were.
            for name in ("loss", "gradient_norm"):
                if math.isnan(metrics[name]):
                    del metrics[name]
        self._owner.update(step=record.step, learning_rate=rate, metrics=metrics)
        self._unlogged = record.applied

    def step_ends(self) -> None:
        """The step that has landed is over: callbacks, then loggers, which see what those wrote."""
        if self.active:
            self._heed(self._runner.step_end(self._owner))
        if not self._unlogged:
            return
        self._unlogged = False
        state, metrics = self._owner.state, self._owner.metrics()
        if not math.isnan(state.learning_rate):
            metrics[LEARNING_RATE] = state.learning_rate
        self._loggers.log(state.step, metrics)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """An evaluation was made: its numbers stand beside those of the step."""
        self._owner.add_metrics(metrics)
        if not self._unlogged:
            self._loggers.log(step, metrics)

    def _heed(self, signal: CallbackSignal) -> None:
        if signal is CallbackSignal.STOP:
            self._controls.stop(FinishReason.STOPPED)
