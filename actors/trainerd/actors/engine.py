"""Training without a daemon: the trainer's loop, guard and checkpoints, called as a function."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from trainerd.actors.accumulation import AccumulationStep, microbatches_of
from trainerd.actors.callbacks.callback import Callback
from trainerd.actors.callbacks.runner import CallbackRunner, OnError
from trainerd.actors.checkpoint_settings import CheckpointSettings
from trainerd.actors.conduct import conduct
from trainerd.actors.errors import EngineError
from trainerd.actors.fit_reporter import Patience
from trainerd.actors.fit_result import FitResult
from trainerd.actors.fitting import Fitting
from trainerd.actors.function_step import StepFunction, make_step
from trainerd.actors.gang import gather
from trainerd.actors.hooks import Audience
from trainerd.actors.intake import Cut, Intake, open_passes
from trainerd.actors.ledger import Ledger
from trainerd.actors.loggers.fan_out import Loggers
from trainerd.actors.loggers.logger import Logger
from trainerd.actors.microbatches import checked_count
from trainerd.actors.plan import Plan
from trainerd.actors.preparation import prepare
from trainerd.actors.program import Program
from trainerd.actors.program_loop import train
from trainerd.actors.reports import Phase, Verdict
from trainerd.actors.rules import Rule
from trainerd.actors.saved_state import (
    nothing_at,
    refuse_newer,
    restore_state,
    saved_form,
)
from trainerd.actors.settings import FaultBudget, Validation, at_least_one
from trainerd.actors.state import PyTree, TrainState, copied
from trainerd.actors.surroundings import Ending, Surroundings
from trainerd.actors.validating import evaluation
from trainerd.actors.work import Position, Work

_MOST_STEPS = 2**31 - 2


class Engine:
    """Trains with your step function, or with a `Program`, in this process.

    | argument | meaning |
    |---|---|
    | `callbacks` | called in order; see `Callback` |
    | `loggers` | get the metrics of every update and every event; closed by `close` |
    | `strict_logging` | a logger that fails ends the run; else it is warned about and counted |
    | `callback_errors` | `"isolate"`: logged and counted; `"raise"`: end the run |
    | `accumulate_steps` | microbatches that each batch must hold under the key `microbatches` |
    | `epochs` | passes over the data; None: until `steps` |
    | `checkpoint`, `validation`, `budget` | see the settings' own docstrings |

    Metrics reach callbacks and loggers one step late, so that the device never waits: when a
    callback says STOP over a step, the one in flight is still finished, and counted. Impossible
    arguments are refused here, before any compute. Runs of one engine follow one another; it is
    not for several threads.
    """

    def __init__(
        self,
        *,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        strict_logging: bool = False,
        callback_errors: OnError = "isolate",
        accumulate_steps: int = 1,
        epochs: int | None = 1,
        checkpoint: CheckpointSettings | None = None,
        validation: Validation | None = None,
        budget: FaultBudget | None = None,
    ) -> None:
        checked_count(accumulate_steps)
        if epochs is not None:
            at_least_one("epochs", epochs)
        # Refuses what is no callback, and an unknown policy.
        CallbackRunner(callbacks, on_error=callback_errors)
        self._audience = Audience(
            callbacks=tuple(callbacks),
            on_error=callback_errors,
            loggers=Loggers(loggers, strict=strict_logging),
        )
        self._accumulate_steps, self._epochs = accumulate_steps, epochs
        self._checkpoint, self._validation = checkpoint, validation
        self._budget = budget or FaultBudget()
        self._newest: Fitting | None = None

    @property
    def result(self) -> FitResult:
        """What the newest fit amounted to, also one that raised."""
        if self._newest is None or self._newest.result is None:
            raise EngineError("there is no result: no fit has got as far as its first step")
        return self._newest.result

    @property
    def state(self) -> PyTree | None:
        """The state the newest fit ended with, also one that raised; None: it is lost."""
        return None if self._newest is None else self._newest.state

    def fit(
        self,
        step_fn: StepFunction,
        data: Any,
        *,
        steps: int | None = None,
        state: PyTree = None,
        continue_on_error: bool = False,
        resume_from: str | Path | None = None,
    ) -> Any:
        """Train `state` on the batches of `data`; return the state after the last update.

        `step_fn(state, batch) -> (state, metrics)`; see `create_gradient_accumulation_step_fn` for
        one that is made of a loss. `state` is copied first; a `TrainState` or any other pytree.
        `data`: batches, in an iterable or by index, in their own order.

        `steps` is how many updates are applied, skipped batches not counted; None: until the data
        ends, which ends the run in any case. `resume_from`, a directory of checkpoints or one of
        them, continues that run at exactly its next batch: pass what it was begun with, `state` for
        its shapes, `data` from its beginning; `steps` counts its updates too.

        A step whose loss or parameters are not finite is skipped, within the budget. An exception
        in a step is logged and raised as `EngineError`, with itself as the cause; with
        `continue_on_error` its batch is skipped, within the budget, where the state is left whole.
        Also raised: `DataError`, `CheckpointError`, `CallbackError`, `LoggingError`. SIGINT and
        SIGTERM finish the step in flight and save before KeyboardInterrupt or `Terminated` is
        raised. A run that has applied nothing is a failure.
        """
        if not callable(step_fn):
            raise EngineError(
                f"step_fn must be a function (state, batch) -> (state, metrics), got "
                f"{type(step_fn).__name__}",
                suggestion="to train a Program call fit_program",
            )
        if steps is not None:
            at_least_one("steps", steps)
        if steps is None and self._epochs is None:
            raise EngineError("epochs=None needs steps, or the run would never end")
        if state is None:
            raise EngineError(
                "state must be given, got None",
                suggestion="pass TrainState.create(params, optimizer), or any other pytree",
            )
        slots, cut = self._slots(step_fn)
        begin = jax.tree.map(copied, state)
        start_step = int(begin.step) if isinstance(begin, TrainState) else 0
        plan = self._plan(
            steps=_MOST_STEPS if steps is None else start_step + steps,
            continue_on_error=continue_on_error,
        )
        fitting = self._fitting()

        def run(around: Surroundings) -> Ending:
            around.stage.enter(Phase.RESTORE, start_step)
            trained, position = begin, Position(step=start_step)
            if resume_from is not None:
                places = self._places(resume_from)
                restored = restore_state(places, begin, fitting.reporter.faulted)
                trained, position = restored.state, Position.of(restored)
                around.reporter.restored(position.step, position.cursor, str(position.origin))
            self._refuse_newer(position.step)
            passes = open_passes(data, epochs=self._epochs, cursor=position.cursor)
            work = Work(
                state=trained,
                step=make_step(step_fn, trained),
                supply=Intake(passes, cut=cut, slots=slots, waiting=fitting.watch.waiting),
                slots=slots,
                slot_examples=0,
                position=position,
                form=saved_form,
                evaluation=evaluation(self._validation),
            )
            return conduct(
                work,
                plan,
                around,
                ledger=Ledger(),
                directory=self._directory,
                fallback=self._fallback,
            )

        return fitting.run(run, start_step=start_step, lenient=True)

    def fit_program(
        self,
        program: Program,
        plan: Plan,
        *,
        resume_from: str | Path | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> TrainState:
        """Train `program` as `plan` says; return its final state.

        What the trainer of a supervised run does, with this engine's callbacks (before the
        program's), loggers and checkpoints; their settings win over the plan's. The plan's rules
        say what is masked and skipped; what they would ask about is raised, as `fit` does.
        """
        if (kept := self._checkpoint) is not None:
            plan = dataclasses.replace(plan, **kept.in_plan())
        fitting = self._fitting(program.callbacks)

        def run(around: Surroundings) -> Ending:
            places = [] if resume_from is None else self._places(resume_from)
            gathered = gather(None, devices)
            prepared = prepare(
                program,
                plan,
                devices=gathered.devices,
                directories=places,
                reporter=around.reporter,
                enter=around.stage.enter,
                meeting=gathered.meeting,
                meeting_timeout_s=gathered.timeout_s,
            )
            if places and prepared.restored is None:
                raise nothing_at(places[0])
            self._refuse_newer(prepared.restored.checkpoint.step if prepared.restored else 0)
            return train(
                program,
                plan,
                prepared,
                around,
                ledger=Ledger(),
                directory=self._directory,
                meeting=gathered.meeting,
                fallback=self._fallback,
            )

        state: TrainState = fitting.run(run, start_step=0, lenient=plan.continue_on_error)
        return dataclasses.replace(state, optimizer=program.optimizer)

    def close(self) -> None:
        """Close the loggers. Nothing can be logged afterwards."""
        self._audience.loggers.close()

    def __enter__(self) -> Engine:
        """Return the engine."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @property
    def _directory(self) -> Path | None:
        return None if self._checkpoint is None else self._checkpoint.path

    @property
    def _fallback(self) -> Path | None:
        return None if self._checkpoint is None else self._checkpoint.fallback

    def _places(self, resume_from: str | Path) -> list[Path]:
        """Where to look: to resume from the engine's own directory is to resume from both."""
        place = Path(resume_from).absolute()
        fallback = self._fallback if place == self._directory else None
        return [place] if fallback is None else [place, fallback]

    def _refuse_newer(self, step: int) -> None:
        for place in (self._directory, self._fallback):
            if place is not None:
                refuse_newer(place, step)

    def _fitting(self, callbacks: Sequence[Callback] = ()) -> Fitting:
        kept = self._checkpoint
        everybody = (*self._audience.callbacks, *callbacks)
        fitting = Fitting(
            dataclasses.replace(self._audience, callbacks=everybody),
            durable=kept is not None,
            patience=Patience()
            if kept is None
            else Patience(max_failures=kept.max_failures, max_age_s=kept.max_age_s),
        )
        self._newest = fitting
        return fitting

    def _slots(self, step_fn: StepFunction) -> tuple[int, Cut]:
        """How many microbatches a batch holds, and how it is checked and made arguments of."""
        wanted = self._accumulate_steps
        if isinstance(step_fn, AccumulationStep):
            made_for = step_fn.accumulate_steps
            if wanted not in (1, made_for):
                raise EngineError(
                    f"accumulate_steps is {wanted}, step_fn was made for {made_for}",
                    suggestion="leave it out of the engine: step_fn knows",
                )
            made = step_fn

            def cut(batch: Any) -> tuple[tuple[Any, ...], Any]:
                microbatches, weights = made.cut(batch)
                return (microbatches, weights), weights

            return made_for, cut

        def check(batch: Any) -> tuple[tuple[Any, ...], Any]:
            if wanted > 1:
                microbatches_of(batch, wanted)
            return (batch,), None

        return 1, check

    def _plan(self, *, steps: int, continue_on_error: bool) -> Plan:
        budget, kept = self._budget, self._checkpoint
        skip = Rule(action=Verdict.SKIP, limit=budget.skips, window_s=budget.window_s)
        never = {"checkpoint_every_steps": _MOST_STEPS, "final_save_timeout_s": 1.0}
        saving: dict[str, Any] = never if kept is None else kept.in_plan()
        return Plan(
            steps=steps,
            global_batch=1,
            continue_on_error=continue_on_error,
            **saving,
            non_finite_microbatch=Rule(
                action=Verdict.MASK, limit=budget.masks, window_s=budget.window_s
            ),
            non_finite_step=dataclasses.replace(skip, consecutive=budget.consecutive),
            data_error=skip,
            step_exception=skip,
        )
