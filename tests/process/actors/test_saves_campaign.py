"""A fixed sample of the campaign that kills processes while they save."""

from __future__ import annotations

from soak import saves


def test_a_process_that_is_killed_while_it_saves_loses_nothing_that_was_told() -> None:
    tally = saves.campaign(seed=6, kills=2)
    assert tally.violations == []
    assert tally.kills == 2
    assert tally.restored == 2
