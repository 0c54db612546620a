"""How many faults of a kind are dealt with alone: a sliding window and a count in a row."""

from __future__ import annotations

import collections

from trainerd.actors.rules import Rule


class Budget:
    """Spends one rule's allowance. Owned by the loop; time is an argument."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._times: collections.deque[float] = collections.deque(maxlen=rule.limit + 1)
        self._in_a_row = 0

    def spend(self, now: float) -> str:
        """Count one fault; say, with the numbers, why it is one too many, or nothing."""
        rule = self._rule
        self._times.append(now)
        self._in_a_row += 1
        while self._times and now - self._times[0] > rule.window_s:
            self._times.popleft()
        if len(self._times) > rule.limit:
            return f"{len(self._times)} in {rule.window_s:g} s, limit {rule.limit}"
        if rule.consecutive and self._in_a_row >= rule.consecutive:
            return f"{self._in_a_row} in a row, limit {rule.consecutive}"
        return ""

    def adopt(self, rule: Rule) -> None:
        """Go on under another rule: what has been counted stays."""
        self._rule = rule
        self._times = collections.deque(self._times, maxlen=rule.limit + 1)

    def progressed(self) -> None:
        """A step was applied: the next fault is the first in a row."""
        self._in_a_row = 0

    def renew(self) -> None:
        """Somebody decided to go on: begin anew."""
        self._times.clear()
        self._in_a_row = 0
