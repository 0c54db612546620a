"""The ledger: what was left out stays out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainerd.actors.ledger import Entry, Ledger, Omission
from trainerd.actors.reports import FaultClass


def skip(first: int, last: int | None = None) -> Entry:
    return Entry(
        first_batch=first,
        last_batch=first if last is None else last,
        slots=None,
        fault_class=FaultClass.NON_FINITE_STEP,
        decision=Omission.SKIP,
    )


def mask(batch: int, *slots: int) -> Entry:
    return Entry(
        first_batch=batch,
        last_batch=batch,
        slots=slots,
        fault_class=FaultClass.NON_FINITE_MICROBATCH,
        decision=Omission.MASK,
    )


def test_skips_and_ranges_are_not_fed() -> None:
    ledger = Ledger([skip(3), skip(5, 8), skip(8, 10), skip(11)])
    assert [b for b in range(14) if not ledger.skips(b)] == [0, 1, 2, 4, 12, 13]
    assert ledger.next_fed(3) == 4
    assert ledger.next_fed(5) == 12
    assert ledger.next_fed(0) == 0


def test_masks_of_a_batch_add_up() -> None:
    ledger = Ledger([mask(2, 5), mask(2, 1, 5), mask(3, 0)])
    assert ledger.masked(2) == (1, 5)
    assert ledger.masked(4) == ()


def test_an_entry_counts_once() -> None:
    ledger = Ledger([skip(1), skip(1)])
    ledger.add(skip(1))
    assert ledger.entries == (skip(1),)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5))),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3))),
    st.integers(0, 40),
)
def test_totals_count_what_lies_below_the_cursor(
    skips: list[tuple[int, int]], masks: list[tuple[int, int]], cursor: int
) -> None:
    ledger = Ledger(
        [skip(first, first + more) for first, more in skips]
        + [mask(batch, slot) for batch, slot in masks]
    )
    skipped = {b for b in range(cursor) if any(f <= b <= f + m for f, m in skips)}
    masked = {(b, s) for b, s in masks if b < cursor and not ledger.skips(b)}
    assert ledger.skipped_before(cursor) == len(skipped)
    assert ledger.masked_before(cursor) == len(masked)
    assert ledger.next_fed(cursor) == next(b for b in range(cursor, 99) if not ledger.skips(b))


def test_an_entry_costs_the_same_however_many_batches_it_spans() -> None:
    """A rollback may leave out a range; nothing is counted through batch by batch."""
    ledger = Ledger([skip(5, 10**15), skip(10**15 + 1, 10**16), skip(3)])
    assert ledger.next_fed(5) == 10**16 + 1
    assert ledger.skipped_before(10**15) == 10**15 - 4
    assert ledger.skipped_between(4, 7) == 2


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5))),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6), st.integers(0, 2))),
    st.integers(0, 40),
    st.integers(0, 10),
)
def test_ranges_say_the_same_as_their_batches(
    skips: list[tuple[int, int]], masks: list[tuple[int, int, int]], first: int, more: int
) -> None:
    ledger = Ledger(skip(a, a + b) for a, b in skips)
    for a, b, slot in masks:
        kind, omission = FaultClass.NON_FINITE_MICROBATCH, Omission.MASK
        ledger.add(
            Entry(
                first_batch=a, last_batch=a + b, slots=(slot,), fault_class=kind, decision=omission
            )
        )
    out = [any(a <= batch <= a + b for a, b in skips) for batch in range(60)]
    slots = [{s for a, b, s in masks if a <= batch <= a + b} for batch in range(60)]
    assert [ledger.skips(batch) for batch in range(60)] == out
    assert [ledger.masked(batch) for batch in range(60)] == [tuple(sorted(s)) for s in slots]
    assert ledger.skipped_between(first, first + more) == sum(out[first : first + more])
    fed = [len(s) for s, left_out in zip(slots, out, strict=True) if not left_out]
    assert ledger.masked_before(60) == sum(fed)


def test_entries_survive_json() -> None:
    for entry in (skip(4, 9), mask(2, 0, 7)):
        assert Entry.from_json(json.loads(json.dumps(entry.as_json()))) == entry


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (5, 4)])
def test_impossible_ranges_are_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="0 ≤ first_batch ≤ last_batch"):
        skip(first, last)


def test_a_mask_names_slots_and_a_skip_names_none() -> None:
    with pytest.raises(ValueError, match="names its slots"):
        mask(1)
