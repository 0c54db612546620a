"""What a wait for data costs: only the time in which no step runs any more."""

from __future__ import annotations

from dataclasses import dataclass

from trainerd.actors.awaiting import Awaiting
from trainerd.actors.reports import Phase, Quiet
from trainerd.actors.stage import Stage
from trainerd.actors.timesheet import Timesheet


@dataclass
class Scene:
    """A supply, and a step in flight that is done at a moment; both move the clock."""

    batch_s: float
    step_s: float
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.sheet = Timesheet(lambda: self.now_s)
        self.stage = Stage(Quiet(), self.sheet)
        self.stage.enter(Phase.STEP, 1)

    def running(self) -> bool:
        return self.now_s < self.step_s

    def take(self, batch: int, timeout_s: float) -> str | None:
        self.now_s = min(self.now_s + timeout_s, max(self.now_s, self.batch_s))
        return "loaded" if self.now_s >= self.batch_s else None

    def awaited(self) -> dict[str, float]:
        awaiting = Awaiting(self, self, self.stage)  # type: ignore[arg-type]
        while awaiting.take(1) is None:
            pass
        return {a.value: round(s, 3) for a, s in self.sheet.spent_s().items() if s}


def test_a_batch_that_comes_while_a_step_runs_costs_nothing() -> None:
    assert Scene(batch_s=0.1, step_s=0.2).awaited() == {"productive": 0.1}


def test_only_the_time_after_the_step_is_a_wait() -> None:
    assert Scene(batch_s=1.0, step_s=0.2).awaited() == {"productive": 0.2, "data_wait": 0.8}


def test_without_a_step_all_of_it_is() -> None:
    assert Scene(batch_s=1.0, step_s=0.0).awaited() == {"data_wait": 1.0}
