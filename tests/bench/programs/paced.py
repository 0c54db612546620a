"""A model of the benchmarks as a run's program, whose steps take at least `pace_s`."""

import time
from dataclasses import replace
from typing import Any

from bench.models import MODELS
from trainerd.actors import Program


class Paced:
    """`data`; every `per_step`-th read takes `pace_s` longer."""

    def __init__(self, data: Any, pace_s: float, per_step: int) -> None:
        self._data, self._pace_s, self._per_step = data, pace_s, per_step
        self._reads = 0

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        self._reads += 1
        if self._reads % self._per_step == 0:
            time.sleep(self._pace_s)
        return self._data[index]


def build(model: str, pace_s: float = 0.0, reads: int = 0) -> Program:
    """`reads`: of a process in a step; default: of all examples of a batch."""
    made = MODELS[model]()
    data = made.program.data
    if pace_s:
        data = Paced(data, pace_s, reads or made.global_batch)
    return replace(made.program, data=data, evaluate=None, callbacks=())
