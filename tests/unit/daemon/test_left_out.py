"""What a run has left out is folded from the journal: merged, bounded, without a single fault."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainerd.daemon import left_out
from trainerd.daemon.left_out import LeftOut
from trainerd.v1 import event_pb2, fault_pb2


def fault(name: str, batch: int, **fields: Any) -> fault_pb2.Fault:
    number = fault_pb2.FaultClass.Value(f"FAULT_CLASS_{name.upper()}")
    return fault_pb2.Fault(**{"class": number, "batch": batch, **fields})


def skipped(batch: int, name: str = "data_error") -> fault_pb2.Fault:
    return fault(name, batch, delegated="ACTION_SKIP", slots=[1])


def masked(batch: int, *slots: int) -> fault_pb2.Fault:
    return fault("non_finite_microbatch", batch, delegated="ACTION_MASK", slots=slots)


def told(ledger: LeftOut, **without: Any) -> list[tuple[Any, ...]]:
    return [
        (each.decision, each.fault_class, each.first_batch, each.last_batch, tuple(each.slots))
        for each in ledger.entries(**without)
    ]


def test_batches_that_touch_are_one_range_and_classes_stay_apart() -> None:
    ledger = LeftOut()
    for batch in (7, 3, 4, 9, 4, 8):
        ledger.raised(skipped(batch))
    ledger.raised(skipped(5, "non_finite_step"))

    assert told(ledger) == [
        ("skip", "data_error", 3, 4, ()),
        ("skip", "data_error", 7, 9, ()),
        ("skip", "non_finite_step", 5, 5, ()),
    ]


def test_a_mask_names_its_slots_and_stands_also_where_it_is_asked_about() -> None:
    ledger = LeftOut()
    ledger.raised(masked(6, 2))
    asked = masked(6, 0)
    asked.awaits_decision = True
    ledger.raised(asked)
    decision = fault_pb2.Decision(action=fault_pb2.ACTION_SKIP)
    # From now on whole steps are skipped; this one was masked, and applied.
    ledger.decided(event_pb2.DecisionMade(fault=asked, decision=decision))

    assert told(ledger) == [("mask", "non_finite_microbatch", 6, 6, (0, 2))]


def test_a_decision_to_skip_counts_and_one_on_trial_does_not() -> None:
    ledger = LeftOut()
    skip = fault_pb2.Decision(action=fault_pb2.ACTION_SKIP)
    raised = fault("step_exception", 4, awaits_decision=True)
    ledger.decided(event_pb2.DecisionMade(fault=raised, decision=skip, trial=True))
    ledger.decided(
        event_pb2.DecisionMade(
            fault=raised, decision=fault_pb2.Decision(action=fault_pb2.ACTION_RESTART)
        )
    )
    assert told(ledger) == []
    ledger.decided(event_pb2.DecisionMade(fault=raised, decision=skip))
    assert told(ledger) == [("skip", "step_exception", 4, 4, ())]


def test_a_rollback_leaves_out_its_whole_range() -> None:
    ledger = LeftOut()
    ledger.raised(skipped(30, "loss_spike"))
    back = event_pb2.RolledBack(
        **{"class": fault_pb2.FAULT_CLASS_LOSS_SPIKE}, first_batch=11, last_batch=29
    )
    ledger.rolled_back(back)

    assert told(ledger) == [("skip", "loss_spike", 11, 30, ())]


def test_a_fault_without_a_batch_or_without_a_rule_of_its_own_leaves_nothing_out() -> None:
    ledger = LeftOut()
    ledger.raised(fault("crash", -1, delegated="ACTION_SKIP"))
    ledger.raised(fault("data_error", 3))
    ledger.raised(fault("checkpoint_save_failed", 3, delegated="ACTION_CONTINUE"))

    assert told(ledger) == []


def test_what_one_fault_led_to_can_be_taken_out_again() -> None:
    ledger = LeftOut()
    for batch in (3, 4, 5):
        ledger.raised(skipped(batch))
    ledger.raised(masked(4, 0))
    ledger.raised(masked(4, 1))
    mask = ("mask", "non_finite_microbatch", 4, 4)
    skips = [("skip", "data_error", 3, 5, ())]

    assert told(ledger, without=skipped(4)) == [
        (*mask, (0, 1)),
        ("skip", "data_error", 3, 3, ()),
        ("skip", "data_error", 5, 5, ()),
    ]
    assert told(ledger, without=masked(4, 1)) == [(*mask, (0,)), *skips]
    assert told(ledger, without=fault("crash", -1)) == [(*mask, (0, 1)), *skips]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=30))
def test_ranges_hold_what_was_added_and_nothing_else(ranges: list[tuple[int, int]]) -> None:
    ledger, wanted = LeftOut(), set[int]()
    for first, more in ranges:
        back = event_pb2.RolledBack(
            **{"class": fault_pb2.FAULT_CLASS_DATA_ERROR},
            first_batch=first,
            last_batch=first + more,
        )
        ledger.rolled_back(back)
        wanted |= set(range(first, first + more + 1))

    entries = list(ledger.entries())
    assert sum(each.last_batch - each.first_batch + 1 for each in entries) == len(wanted)
    assert {n for e in entries for n in range(e.first_batch, e.last_batch + 1)} == wanted
    for before, after in itertools.pairwise(entries):
        assert before.last_batch + 1 < after.first_batch


def test_the_oldest_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_out, "MAX_ENTRIES", 3)
    ledger = LeftOut()
    for batch in range(0, 10, 2):
        ledger.raised(skipped(batch))
        ledger.raised(masked(batch, 1))

    assert [each[2] for each in told(ledger)] == [4, 6, 8, 4, 6, 8]
