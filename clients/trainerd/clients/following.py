"""Streams that outlive their daemon: when it goes, the next one goes on where this one stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from trainerd.clients.client import Client
from trainerd.clients.errors import Unreachable
from trainerd.v1 import control_pb2

PATIENCE_S = 60.0
"""Seconds that a daemon which does not answer is waited for."""
_RETRY_S = 0.5


class Patience:
    """Waits for a daemon that was lost, `patience_s` seconds at a time; says so once each time."""

    def __init__(
        self,
        noted: Callable[[str], None] = lambda _: None,
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`noted` hears that the daemon is waited for, and that it is back."""
        self._noted, self._patience_s = noted, patience_s
        self._clock, self._sleep = clock, sleep
        self._lost_at: float | None = None

    def lost(self, error: Unreachable) -> None:
        """Wait a little; raises `error` when it was waited for long enough."""
        if self._lost_at is None:
            self._lost_at = self._clock()
            self._noted("the daemon does not answer; waiting for it (training goes on)")
        elif self._clock() - self._lost_at >= self._patience_s:
            raise error
        self._sleep(_RETRY_S)

    def found(self) -> None:
        """It has answered."""
        if self._lost_at is not None:
            self._lost_at = None
            self._noted("the daemon answers again")


def follow_events(
    client: Client, run: str = "", *, after_sequence: int = 0, patience: Patience | None = None
) -> Iterator[control_pb2.ListEventsResponse]:
    """A run's records after a sequence (or those of all), each once, until the run has ended.

    A daemon that is killed meanwhile costs none of them. Raises `Unreachable` when no other takes
    its place in time, and the other errors of `Client.list_events`.
    """
    patience = patience or Patience()
    while True:
        try:
            for response in client.list_events(run, after_sequence=after_sequence, follow=True):
                patience.found()
                after_sequence = response.event.sequence
                yield response
        except Unreachable as error:
            patience.lost(error)
        else:
            return
