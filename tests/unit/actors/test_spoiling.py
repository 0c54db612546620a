"""Batches made bad on purpose: which slots of a process are meant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trainerd.actors.drills import Spoiling
from trainerd.actors.feed import Loaded
from trainerd.actors.spoiling import spoilt


def coded(spoiling: Spoiling, first_slot: int) -> list[str]:
    """What the weights of a process that feeds two slots from `first_slot` on look like."""
    weights = np.array([4.0, 4.0], np.float32)
    loaded = Loaded(batch=7, slots=None, placed_weights=weights, weights=weights, error=None)

    def weighed(given: Loaded, placed: Any) -> Loaded:
        return replace(given, placed_weights=placed)

    made = spoilt(loaded, spoiling, weighed, first_slot)
    assert list(made.weights) == [4.0, 4.0]
    return [f"{weight:g}" for weight in made.placed_weights]


@pytest.mark.parametrize(
    ("first_slot", "nans", "spikes"),
    [(0, ["4", "4"], ["4", "-4"]), (2, ["4", "nan"], ["4", "4"]), (4, ["4", "4"], ["4", "4"])],
)
def test_a_slot_is_spoilt_by_the_process_that_feeds_it(
    first_slot: int, nans: list[str], spikes: list[str]
) -> None:
    assert coded(Spoiling(nan_slots=(3,)), first_slot) == nans
    assert coded(Spoiling(spike_slots=(1,)), first_slot) == spikes


def test_all_slots_are_those_of_every_process() -> None:
    assert coded(Spoiling(nan_slots=None), 2) == ["nan", "nan"]
