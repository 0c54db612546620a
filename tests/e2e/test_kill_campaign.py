"""A sample of the campaign of kills; `make soak` runs the whole."""

from __future__ import annotations

import pytest

from soak import kills

pytestmark = pytest.mark.e2e


def test_kills_of_whoever_there_is_leave_the_state_of_an_undisturbed_run() -> None:
    tally = kills.campaign(seed=3, kills=10)
    assert tally.violations == []
    assert sum(tally.kills.values()) + tally.missed == 10
    assert tally.restarts >= 1
