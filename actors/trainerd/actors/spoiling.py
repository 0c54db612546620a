"""Batches made bad on purpose, in ways that the compiled step knows.

Nothing is added to the step's inputs: what is wrong with a slot is coded in its weight on the
devices. NaN: the slot counts as not finite. Below zero: it has the weight's size, and its loss and
gradient are `slot_sums.SPIKE` times what they are. The host's copy of the weights stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from trainerd.actors.drills import Spoiling
from trainerd.actors.errors import DataError
from trainerd.actors.feed import Loaded

Weights = np.ndarray[Any, Any]


def spoilt(
    loaded: Loaded, spoiling: Spoiling, weighed: Callable[[Loaded, Weights], Loaded]
) -> Loaded:
    """Return `loaded` as `spoiling` says; `weighed` gives it other weights on the devices.

    Of a gang each process spoils what it feeds of a batch: it gives no weight to anything else.
    """
    if loaded.error is not None:
        return loaded
    if spoiling.error:
        nothing = np.zeros_like(loaded.weights)
        error = DataError(spoiling.error, batch=loaded.batch)
        return replace(weighed(loaded, nothing), weights=nothing, error=error)
    coded = loaded.weights.copy()
    spikes, nans = _held(spoiling.spike_slots, coded), _held(spoiling.nan_slots, coded)
    coded[spikes] = -coded[spikes]
    coded[nans] = np.nan
    return weighed(loaded, coded)


def _held(slots: tuple[int, ...] | None, weights: Weights) -> Any:
    """Which of `slots`, None: of all, have a weight; a slot that there is not is left out."""
    wanted = np.zeros(weights.shape, np.bool_)
    wanted[[slot for slot in slots if slot < len(weights)] if slots is not None else ...] = True
    return wanted & (weights > 0)
