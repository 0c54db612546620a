"""Waiting for data, and what of it costs the run time: that in which no step runs any more."""

from __future__ import annotations

from trainerd.actors.feed import Loaded
from trainerd.actors.pipeline import Pipeline
from trainerd.actors.stage import Stage
from trainerd.actors.timesheet import Activity
from trainerd.actors.work import Supply

_SLICE_S = 0.5
_LOOK_S = 0.005
"""How often it is looked whether the step in flight is done, while a batch is waited for."""


class Awaiting:
    """Takes batches from a supply. Owned by the loop."""

    def __init__(self, supply: Supply, pipeline: Pipeline, stage: Stage) -> None:
        self._supply, self._pipeline, self._stage = supply, pipeline, stage

    def take(self, batch: int) -> Loaded | None:
        """Return `batch`, or None if it is not ready for a while; raises what the supply does."""
        if self._pipeline.running():
            loaded = self._supply.take(batch, _LOOK_S)
            if loaded is not None or self._pipeline.running():
                return loaded
        with self._stage.within(Activity.DATA_WAIT):
            return self._supply.take(batch, _SLICE_S)
