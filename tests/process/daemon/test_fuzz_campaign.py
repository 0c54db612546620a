"""A sample of the fuzz campaign; `make soak` runs it whole."""

from __future__ import annotations

from soak import fuzz

REQUESTS = 500


def test_no_request_brings_the_daemon_down_or_out_of_order() -> None:
    tally = fuzz.campaign(seed=1, requests=REQUESTS)

    assert tally.violations == [], tally
    assert sum(tally.codes.values()) == tally.requests == REQUESTS
    # It has come in, and it was refused for more than one reason.
    assert {"OK", "INVALID_ARGUMENT", "PERMISSION_DENIED", "NOT_FOUND"} <= set(tally.codes)
