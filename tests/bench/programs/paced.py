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


def build(model: str, pace_s: float = 0.0) -> Program:
    made = MODELS[model]()
    data = Paced(made.program.data, pace_s, made.global_batch) if pace_s else made.program.data
    return replace(made.program, data=data, evaluate=None, callbacks=())
