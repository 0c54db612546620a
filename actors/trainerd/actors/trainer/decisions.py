"""Where a decision of the supervisor meets the fault that waits for it."""

from __future__ import annotations

import threading

from trainerd.v1 import fault_pb2


class DecisionSlot:
    """Holds at most one decision, and only while a fault waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._awaited = False
        self._closed = False
        self._decision: fault_pb2.Decision | None = None

    def expect(self) -> None:
        """A fault is about to be raised; what came before does not concern it."""
        with self._changed:
            self._awaited = True
            self._decision = None

    def offer(self, decision: fault_pb2.Decision) -> bool:
        """A decision arrived; False: nothing waits for one, it is ignored."""
        with self._changed:
            if not self._awaited or self._decision is not None:
                return False
            self._decision = decision
            self._changed.notify_all()
            return True

    def wait(self, timeout_s: float) -> fault_pb2.Decision | None:
        """The decision; None: none came in time, or none can come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._decision is not None or self._closed, timeout_s)
            decision, self._decision, self._awaited = self._decision, None, False
            return decision

    def close(self) -> None:
        """No decision will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
