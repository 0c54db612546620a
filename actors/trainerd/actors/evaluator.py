"""Evaluations of a run: when they are due, and what becomes of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trainerd.actors.mishaps import Mishaps
from trainerd.actors.reports import Phase
from trainerd.actors.stage import Stage
from trainerd.actors.state import PyTree
from trainerd.actors.work import Evaluation


class Evaluator:
    """Measures states at rest, each once. Owned by the loop."""

    def __init__(
        self,
        evaluation: Evaluation | None,
        *,
        steps: int,
        stage: Stage,
        mishaps: Mishaps,
        evaluated: Callable[[int, Mapping[str, float]], None],
    ) -> None:
        self._evaluation, self._steps = evaluation, steps
        self._stage, self._mishaps, self._evaluated = stage, mishaps, evaluated
        self._done_step = -1

    @property
    def each_epoch(self) -> bool:
        """Whether the end of an epoch is to be evaluated."""
        return self._evaluation is not None and self._evaluation.each_epoch

    @property
    def alone(self) -> bool:
        """Whether this process can measure without the others of its gang."""
        return self._evaluation is None or not self._evaluation.together

    def due(self, step: int) -> bool:
        """Whether a state that has reached `step` is to be measured."""
        wanted = self._evaluation
        if wanted is None or step == self._done_step:
            return False
        regular = wanted.every_steps > 0 and step > 0 and step % wanted.every_steps == 0
        return regular or step >= self._steps or (step == 0 and wanted.at_start)

    def begin_anew(self) -> None:
        """The run has gone back: states that were measured are reached again."""
        self._done_step = -1

    def run(self, state: PyTree, step: int) -> None:
        """Measure `state` and report; nothing if that was done. Raises `Decided`."""
        if self._evaluation is None or step == self._done_step:
            return
        self._done_step = step
        self._stage.enter(Phase.EVALUATE, step)
        try:
            came = self._evaluation.measure(state)
            metrics = {str(name): float(value) for name, value in came.items()}
        except Exception as error:
            self._mishaps.unmeasured(error)
            return
        self._evaluated(step, metrics)
