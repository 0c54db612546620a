"""Faults on purpose: which are due when, and what they do to a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from trainerd.actors.drills import Drills, InjectedFault, Injection, Spoiling, drawn
from trainerd.actors.feed import Loaded
from trainerd.actors.spoiling import spoilt
from trainerd.v1 import inject_pb2


def injection(**changes: Any) -> Injection:
    return Injection(**{"number": 1, "fault": InjectedFault.NAN, **changes})


def numbers(drills: Drills, step: int, batch: int) -> list[int]:
    return [found.number for found in drills.due(step, batch)]


def test_every_fault_of_the_protocol_has_its_name_here():
    names = {f"INJECTED_FAULT_{fault.name}" for fault in InjectedFault}
    assert names == set(inject_pb2.InjectedFault.keys()) - {"INJECTED_FAULT_UNSPECIFIED"}


def test_a_fault_at_a_step_is_due_there_and_at_the_first_one_after_it():
    drills = Drills()
    drills.arm(injection(step=5))
    assert [numbers(drills, step, step) for step in (4, 5, 6)] == [[], [1], [1]]


def test_it_happens_once_unless_it_is_to_happen_more_often():
    drills = Drills()
    drills.arm(injection(step=5))
    drills.arm(injection(number=2, step=5, times=2))
    happened = []
    for batch in range(5, 10):
        for found in drills.due(batch, batch):
            drills.happens(found.number, batch)
            happened.append((found.number, batch))
    assert happened == [(1, 5), (2, 5), (2, 6)]


def test_it_never_happens_twice_at_a_batch():
    drills = Drills()
    drills.arm(injection(step=5, times=9, batches=frozenset((7,))))
    assert numbers(drills, 6, 7) == []
    assert numbers(drills, 6, 8) == [1]
    drills.happens(1, 8)
    assert numbers(drills, 6, 8) == []


def test_one_that_is_armed_again_does_not_forget_what_has_happened():
    drills = Drills()
    drills.arm(injection(step=5))
    drills.happens(1, 5)
    drills.arm(injection(step=5))
    assert numbers(drills, 6, 6) == []


def test_a_probability_is_drawn_from_seed_number_and_batch_alone():
    drills = Drills()
    drills.arm(injection(probability=0.25, times=1000, seed=3))
    due = [batch for batch in range(4000) if drills.due(9, batch)]
    assert due == [batch for batch in range(4000) if drawn(3, 1, batch) < 0.25]
    assert 900 < len(due) < 1100
    # The same on every machine and in every release.
    assert drawn(3, 1, 0) == 0.7074758351535274


def test_certainty_happens_at_each_batch():
    drills = Drills()
    drills.arm(injection(probability=1.0, times=1000))
    assert all(drills.due(1, batch) for batch in range(1000))


def loaded(*weights: float) -> Loaded:
    host = np.asarray(weights, np.float32)
    return Loaded(batch=3, slots=None, placed_weights=host, weights=host)


def weighed(batch: Loaded, weights: Any) -> Loaded:
    return replace(batch, placed_weights=weights)


def test_what_is_wrong_with_slots_is_in_their_weights_on_the_devices_alone():
    before = loaded(1.0, 2.0, 3.0, 0.0)
    after = spoilt(before, Spoiling(nan_slots=(0,), spike_slots=(2, 9)), weighed)
    np.testing.assert_array_equal(after.placed_weights, [np.nan, 2.0, -3.0, 0.0])
    np.testing.assert_array_equal(after.weights, [1.0, 2.0, 3.0, 0.0])
    assert after.error is None


def test_all_slots_are_those_with_a_weight():
    after = spoilt(loaded(1.0, 2.0, 0.0), Spoiling(nan_slots=None), weighed)
    np.testing.assert_array_equal(after.placed_weights, [np.nan, np.nan, 0.0])


def test_bad_data_comes_as_from_a_source_that_raises():
    after = spoilt(loaded(1.0, 2.0), Spoiling(error="torn"), weighed)
    assert after.error is not None
    assert (after.error.message, after.error.batch) == ("torn", 3)
    assert not after.weights.any()
    assert not after.placed_weights.any()


def test_a_batch_that_is_bad_already_stays_as_it_is():
    before = spoilt(loaded(1.0), Spoiling(error="torn"), weighed)
    assert spoilt(before, Spoiling(nan_slots=None), weighed) is before
