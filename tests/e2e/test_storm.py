"""A sample of the fault storm; `make soak` runs the whole."""

from __future__ import annotations

import pytest

from e2e.host import host
from soak import storm

pytestmark = pytest.mark.e2e


def test_a_run_through_a_storm_ends_as_its_policy_and_its_ledger_say() -> None:
    tally = storm.Tally()
    with host(injection=True) as made:
        storm.one(made, tally, seed=11, faults=storm.QUICK, steps=160)
    assert tally.violations == []
    assert (tally.runs, tally.completed, tally.exact) == (1, 1, 1), str(tally)
    assert len(tally.faults) > 2
