"""Where a decision of the supervisor meets the fault that waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from trainerd.v1 import fault_pb2


class DecisionSlot:
    """Holds at most one decision, and only while the fault that it answers waits for it.

    A fault that waits is a *question*; it is named by the sequence of the report that raised it.
    """

    def __init__(self) -> None:
        # Reentrant: a report that overflows the outbox asks again from within `ask`.
        self._changed = threading.Condition(threading.RLock())
        self._question = 0
        self._raise: Callable[[int], int] | None = None
        self._closed = False
        self._decision: fault_pb2.Decision | None = None

    @property
    def awaited(self) -> int:
        """The question that waits; 0: none, or it is answered."""
        with self._changed:
            return 0 if self._decision is not None else self._question

    def ask(self, report: Callable[[int], int]) -> None:
        """Raise a fault that waits for a decision.

        `report` sends it and returns the sequence of the message; its argument is the question, or
        0 the first time. It is called under the lock: no answer comes before the name is known.
        """
        with self._changed:
            self._decision, self._raise = None, None
            self._question = report(0)
            self._raise = report

    def ask_again(self) -> None:
        """The reports not sent yet were dropped: the fault that waits must be heard of."""
        with self._changed:
            report = self._raise
            if report is not None and self._decision is None:
                self._raise = None  # A report that overflows must not ask again in turn.
                report(self._question)
                self._raise = report

    def offer(self, decision: fault_pb2.Decision) -> bool:
        """A decision arrived; False: it answers no fault that waits, and is ignored."""
        with self._changed:
            if decision.answers != self.awaited or not self.awaited:
                return False
            self._decision = decision
            self._changed.notify_all()
            return True

    def wait(self, timeout_s: float) -> fault_pb2.Decision | None:
        """The decision; None: none came in time, or none can come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._decision is not None or self._closed, timeout_s)
            decision = self._decision
            self._decision, self._raise, self._question = None, None, 0
            return decision

    def close(self) -> None:
        """No decision will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
