"""How far two clocks are apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainerd.daemon.cluster.clock_offset import KEPT, ClockOffset, Offset, measured

NANOSECONDS = st.integers(0, 10**12)


@given(
    ahead_ns=st.integers(-(10**12), 10**12), there=NANOSECONDS, took=NANOSECONDS, back=NANOSECONDS
)
def test_the_truth_lies_within_the_error(ahead_ns: int, there: int, took: int, back: int) -> None:
    """`ahead_ns`: this clock less the other."""
    sent = 10**15
    received = sent - ahead_ns + there
    answered = received + took
    returned = answered + ahead_ns + back

    found = measured(sent_ns=sent, received_ns=received, answered_ns=answered, returned_ns=returned)

    assert abs(found.offset_s - ahead_ns / 1e9) <= found.error_s + 1e-6
    assert found.error_s == (there + back) / 2e9


def test_the_shortest_round_trip_of_the_newest_counts() -> None:
    clocks = ClockOffset()
    assert clocks.best is None
    clocks.add(Offset(9.0, -1.0))  # Took less than no time: the clock was set meanwhile.
    assert clocks.best is None

    clocks.add(Offset(1.0, 0.001))
    clocks.add(Offset(2.0, 0.5))
    assert clocks.best == Offset(1.0, 0.001)
    for _ in range(KEPT):
        clocks.add(Offset(3.0, 0.2))
    assert clocks.best == Offset(3.0, 0.2)
