"""How far two machines' clocks are apart, from four timestamps (RFC 5905, section 8)."""

from __future__ import annotations

import collections
from typing import NamedTuple

KEPT = 8
"""Newest measurements of which the one with the shortest round trip counts."""


class Offset(NamedTuple):
    """This clock less the other in seconds, and by how much that can be wrong."""

    offset_s: float
    error_s: float


def measured(*, sent_ns: int, received_ns: int, answered_ns: int, returned_ns: int) -> Offset:
    """One measurement: sent and returned by this clock, received and answered by the other."""
    there, back = received_ns - sent_ns, answered_ns - returned_ns
    round_trip = (returned_ns - sent_ns) - (answered_ns - received_ns)
    return Offset(-(there + back) / 2e9, round_trip / 2e9)


class ClockOffset:
    """The best of the newest measurements."""

    def __init__(self) -> None:
        self._kept: collections.deque[Offset] = collections.deque(maxlen=KEPT)

    def add(self, offset: Offset) -> None:
        """Take a measurement; one whose round trip took no time or less says nothing."""
        if offset.error_s > 0:
            self._kept.append(offset)

    @property
    def best(self) -> Offset | None:
        """The one with the shortest round trip; None: there is none."""
        return min(self._kept, key=lambda each: each.error_s, default=None)
