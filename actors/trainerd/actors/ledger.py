"""What was left out of training, batch by batch, and why: a replay leaves the same out."""

from __future__ import annotations

import bisect
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainerd.actors.reports import FaultClass


class Omission(enum.Enum):
    """How a batch or a slot is left out."""

    MASK = "mask"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Batches `first_batch` to `last_batch`, both included; `slots` None: all of a batch's."""

    first_batch: int
    last_batch: int
    slots: tuple[int, ...] | None
    fault_class: FaultClass
    decision: Omission

    def __post_init__(self) -> None:
        if not 0 <= self.first_batch <= self.last_batch:
            raise ValueError(
                f"ledger entry must have 0 ≤ first_batch ≤ last_batch, "
                f"got {self.first_batch} and {self.last_batch}"
            )
        if (self.decision is Omission.MASK) != bool(self.slots):
            raise ValueError("a mask names its slots and a skip names none")

    def holds(self, batch: int) -> bool:
        """Whether `batch` is one of its batches."""
        return self.first_batch <= batch <= self.last_batch

    def as_json(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return {
            "first_batch": self.first_batch,
            "last_batch": self.last_batch,
            "slots": None if self.slots is None else list(self.slots),
            "class": self.fault_class.value,
            "decision": self.decision.value,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Entry:
        """Read what `as_json` returned."""
        slots = values["slots"]
        return Entry(
            first_batch=int(values["first_batch"]),
            last_batch=int(values["last_batch"]),
            slots=None if slots is None else tuple(int(slot) for slot in slots),
            fault_class=FaultClass(values["class"]),
            decision=Omission(values["decision"]),
        )


class Ledger:
    """A set of entries, asked once a batch. Not safe for threads: the loop owns it.

    What a question costs a step does not grow with how many batches an entry spans.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[Entry, None] = {}
        # Skipped batches as ranges [first, end), in order, with a gap before each.
        self._firsts: list[int] = []
        self._ends: list[int] = []
        self._masks: dict[int, set[int]] = {}
        self._mask_ranges: list[Entry] = []
        for entry in entries:
            self.add(entry)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, in the order they were added."""
        return tuple(self._entries)

    def add(self, entry: Entry) -> None:
        """Add an entry; one that is already there changes nothing."""
        if entry in self._entries:
            return
        self._entries[entry] = None
        match entry.decision:
            case Omission.SKIP:
                self._add_skip(entry.first_batch, entry.last_batch + 1)
            case Omission.MASK if entry.first_batch == entry.last_batch:
                self._masks.setdefault(entry.first_batch, set()).update(entry.slots or ())
            case Omission.MASK:
                self._mask_ranges.append(entry)

    def skips(self, batch: int) -> bool:
        """Whether `batch` is never fed."""
        return self.next_fed(batch) != batch

    def masked(self, batch: int) -> tuple[int, ...]:
        """Slots of `batch` that never count, in order."""
        slots = set(self._masks.get(batch, ()))
        for entry in self._mask_ranges:
            if entry.holds(batch):
                slots.update(entry.slots or ())
        return tuple(sorted(slots))

    def next_fed(self, batch: int) -> int:
        """First batch from `batch` on that is fed."""
        place = bisect.bisect_right(self._firsts, batch) - 1
        return max(batch, self._ends[place]) if place >= 0 else batch

    def skipped_before(self, cursor: int) -> int:
        """How many batches below `cursor` were left out."""
        return self.skipped_between(0, cursor)

    def skipped_between(self, first: int, end: int) -> int:
        """How many batches from `first` on and below `end` were left out."""
        skipped = 0
        place = bisect.bisect_right(self._ends, first)
        while place < len(self._firsts) and self._firsts[place] < end:
            skipped += min(self._ends[place], end) - max(self._firsts[place], first)
            place += 1
        return max(0, skipped)

    def masked_before(self, cursor: int) -> int:
        """How many slots of fed batches below `cursor` were left out."""
        batches = {batch for batch in self._masks if batch < cursor}
        for entry in self._mask_ranges:
            batches.update(range(entry.first_batch, min(entry.last_batch + 1, cursor)))
        return sum(len(self.masked(batch)) for batch in batches if not self.skips(batch))

    def _add_skip(self, first: int, end: int) -> None:
        low = bisect.bisect_left(self._ends, first)
        high = bisect.bisect_right(self._firsts, end)
        if low < high:
            first = min(first, self._firsts[low])
            end = max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]
