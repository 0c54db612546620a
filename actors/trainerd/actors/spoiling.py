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
    loaded: Loaded,
    spoiling: Spoiling,
    weighed: Callable[[Loaded, Weights], Loaded],
    first_slot: int = 0,
) -> Loaded:
    """Return `loaded` as `spoiling` says; `weighed` gives it other weights on the devices.

    `first_slot`: what this process feeds begins with that slot.
    """
    if loaded.error is not None:
        return loaded
    if spoiling.error:
        nothing = np.zeros_like(loaded.weights)
        error = DataError(spoiling.error, batch=loaded.batch)
        return replace(weighed(loaded, nothing), weights=nothing, error=error)
    coded = loaded.weights.copy()
    spikes = _held(spoiling.spike_slots, coded, first_slot)
    nans = _held(spoiling.nan_slots, coded, first_slot)
    coded[spikes] = -coded[spikes]
    coded[nans] = np.nan
    return weighed(loaded, coded)


def _held(slots: tuple[int, ...] | None, weights: Weights, first_slot: int) -> Any:
    """Which of `slots`, None: of all, have a weight; a slot that is not here is left out."""
    wanted = np.zeros(weights.shape, np.bool_)
    own = None if slots is None else [slot - first_slot for slot in slots]
    wanted[[slot for slot in own if 0 <= slot < len(weights)] if own is not None else ...] = True
    return wanted & (weights > 0)
