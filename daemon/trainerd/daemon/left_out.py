"""What a run has left out of training, as the journal tells: batches, and slots of batches.

It is the trainer's own ledger, which a checkpoint holds up to its step, seen from outside: a new
process is told of it, so that what was left out just before a crash is left out again.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from trainerd.daemon import codec
from trainerd.v1 import event_pb2, fault_pb2, incident_pb2

MAX_ENTRIES = 10_000
"""Entries of each kind that are kept; the oldest go first, which every checkpoint holds."""


class LeftOut:
    """Ranges of batches for each fault class, and masked slots. Adding twice changes nothing."""

    def __init__(self) -> None:
        # First and last batch of ranges that neither overlap nor touch, in order.
        self._skips: dict[str, list[tuple[int, int]]] = {}
        self._masks: dict[tuple[int, str], frozenset[int]] = {}

    def raised(self, fault: fault_pb2.Fault) -> None:
        """The trainer left something out by a delegated rule, whether or not it also asks."""
        if fault.batch < 0:
            return
        if fault.delegated == fault_pb2.ACTION_MASK and fault.slots:
            key = (fault.batch, codec.class_name(fault))
            self._masks[key] = self._masks.get(key, frozenset()) | frozenset(fault.slots)
            if len(self._masks) > MAX_ENTRIES:
                del self._masks[next(iter(self._masks))]
        elif fault.delegated == fault_pb2.ACTION_SKIP:
            self._skip(fault.batch, fault.batch, codec.class_name(fault))

    def decided(self, made: event_pb2.DecisionMade) -> None:
        """The supervisor had a batch left out. What the trainer did by itself it has reported."""
        fault = made.fault
        skips = made.decision.action == fault_pb2.ACTION_SKIP and not fault.delegated
        if skips and fault.batch >= 0 and not made.trial:
            self._skip(fault.batch, fault.batch, codec.class_name(fault))

    def rolled_back(self, event: event_pb2.RolledBack) -> None:
        """The trainer went back; the batches in between are left out from now on."""
        if 0 <= event.first_batch <= event.last_batch:
            self._skip(event.first_batch, event.last_batch, codec.class_name(event))

    def entries(
        self, *, without: fault_pb2.Fault | None = None
    ) -> Iterator[incident_pb2.LedgerEntry]:
        """All entries, oldest batch first within a class. `without`: but for what it led to."""
        batch = -1 if without is None else without.batch
        name = "" if without is None else codec.class_name(without)
        slots = frozenset() if without is None else frozenset(without.slots)
        for (masked, fault_class), every in self._masks.items():
            left = every - slots if (masked, fault_class) == (batch, name) else every
            if left:
                yield incident_pb2.LedgerEntry(
                    first_batch=masked,
                    last_batch=masked,
                    slots=sorted(left),
                    fault_class=fault_class,
                    decision="mask",
                )
        for fault_class, ranges in self._skips.items():
            for first, last in ranges:
                hole = batch if fault_class == name and first <= batch <= last else None
                for begin, end in _around(first, last, hole):
                    yield incident_pb2.LedgerEntry(
                        first_batch=begin, last_batch=end, fault_class=fault_class, decision="skip"
                    )

    def _skip(self, first: int, last: int, fault_class: str) -> None:
        ranges = self._skips.setdefault(fault_class, [])
        low = bisect.bisect_left(ranges, first - 1, key=lambda each: each[1])
        high = bisect.bisect_right(ranges, last + 1, key=lambda each: each[0])
        if low < high:
            first, last = min(first, ranges[low][0]), max(last, ranges[high - 1][1])
        ranges[low:high] = [(first, last)]
        if len(ranges) > MAX_ENTRIES:
            del ranges[0]


def _around(first: int, last: int, hole: int | None) -> Iterator[tuple[int, int]]:
    if hole is None:
        yield first, last
        return
    if first < hole:
        yield first, hole - 1
    if hole < last:
        yield hole + 1, last
