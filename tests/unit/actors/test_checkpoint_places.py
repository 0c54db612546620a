"""Where the next save goes: to the first directory, to the fallback, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainerd.actors.checkpoint_places import BACK_FIRST_S, BACK_LONGEST_S, Places

FIRST, FALLBACK = Path("/first"), Path("/fallback")


@pytest.fixture
def places() -> Places:
    return Places(FIRST, FALLBACK)


def test_one_directory_is_tried_whatever_happened() -> None:
    places = Places(FIRST)
    places.failed(FIRST, 0.0)
    assert places.order(0.0) == [FIRST]
    assert not places.elsewhere(FIRST)


def test_a_fallback_that_is_the_directory_itself_is_none() -> None:
    assert Places(FIRST, FIRST).all == (FIRST,)


def test_the_fallback_is_used_after_a_failure_until_the_first_is_due_again(places: Places) -> None:
    assert places.order(0.0) == [FIRST, FALLBACK]
    places.failed(FIRST, 0.0)
    places.succeeded(FALLBACK)
    assert places.order(BACK_FIRST_S - 1) == [FALLBACK]
    assert places.order(BACK_FIRST_S) == [FIRST, FALLBACK]


def test_the_first_is_tried_back_less_and_less_often(places: Places) -> None:
    now, waited = 0.0, []
    for _ in range(8):
        places.failed(FIRST, now)
        begun = now
        while places.order(now) == [FALLBACK]:
            now += 1.0
        waited.append(now - begun)
    assert waited == [30, 60, 120, 240, 480, BACK_LONGEST_S, BACK_LONGEST_S, BACK_LONGEST_S]


def test_a_durable_save_in_the_first_forgets_its_failures(places: Places) -> None:
    for _ in range(3):
        places.failed(FIRST, 0.0)
    places.succeeded(FIRST)
    assert places.order(0.0) == [FIRST, FALLBACK]
    places.failed(FIRST, 0.0)
    assert places.order(BACK_FIRST_S) == [FIRST, FALLBACK]


def test_where_the_fallback_fails_too_the_first_is_tried_at_once(places: Places) -> None:
    places.failed(FIRST, 0.0)
    places.failed(FALLBACK, 5.0)
    assert places.order(5.0) == [FIRST, FALLBACK]


def test_one_whose_save_does_not_end_is_not_tried(places: Places) -> None:
    places.shut(FIRST)
    assert places.order(1e9) == [FALLBACK]
    assert not places.elsewhere(FALLBACK)
    places.reopened(FIRST)
    assert places.order(1e9) == [FIRST, FALLBACK]
