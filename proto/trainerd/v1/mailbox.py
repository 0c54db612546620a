"""Bounded mailboxes and duplicate detection: the delivery rules of every link between actors.

An actor's mailbox keeps two kinds of messages apart. *Lifecycle* messages are never dropped: they
stay until the receiver acknowledges them, and are sent again after a reconnect. *Telemetry* is
coalesced: a newer message replaces an unsent older one of the same kind. Both together are bounded;
an overflow is the sender's to handle (close the link, state the whole situation anew).
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Message = TypeVar("Message")

MAILBOX_LIMIT = 1024
"""Most lifecycle messages a mailbox holds."""


class MailboxOverflow(Exception):
    """A mailbox is full; the link it belongs to must be closed."""


@dataclass(frozen=True, slots=True)
class Numbered(Generic[Message]):
    """A lifecycle message and its place in the incarnation's sequence (from 1)."""

    sequence: int
    message: Message


class Outbox(Generic[Message]):
    """What an actor has to say on a link that comes and goes. Safe to use from any thread.

    `limit` bounds the unacknowledged lifecycle messages. An overflow drops *all* of them and
    counts them in `dropped`: the next greeting states the situation they would have told.
    """

    def __init__(self, limit: int = MAILBOX_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"limit must be ≥ 1, got {limit}")
        self._limit = limit
        self._changed = threading.Condition()
        self._sequence = 0
        self._pending: collections.deque[Numbered[Message]] = collections.deque()
        self._sent_up_to = 0
        self._telemetry: dict[str, Message] = {}
        self._closed = False
        self.dropped = 0

    def post(self, message: Message) -> int:
        """Queue a lifecycle message; return its sequence. Raise `MailboxOverflow` when full."""
        with self._changed:
            self._sequence += 1
            self._pending.append(Numbered(self._sequence, message))
            sequence = self._sequence
            overflow = len(self._pending) > self._limit
            if overflow:
                self.dropped += len(self._pending)
                self._pending.clear()
                self._sent_up_to = self._sequence
            self._changed.notify_all()
        if overflow:
            raise MailboxOverflow(f"{self._limit} unacknowledged messages, limit {self._limit}")
        return sequence

    def coalesce(
        self,
        kind: str,
        message: Message,
        merge: Callable[[Message, Message], Message] | None = None,
    ) -> None:
        """Queue telemetry; an unsent message of the same kind is replaced, or merged into it."""
        with self._changed:
            older = self._telemetry.get(kind)
            if older is not None and merge is not None:
                message = merge(older, message)
            self._telemetry[kind] = message
            self._changed.notify_all()

    def rewind(self, acknowledged: int) -> None:
        """After a reconnect: forget what the receiver has, send the rest again."""
        with self._changed:
            self._forget(acknowledged)
            self._sent_up_to = acknowledged
            self._changed.notify_all()

    def acknowledge(self, sequence: int) -> None:
        """The receiver has journalled everything up to `sequence`."""
        with self._changed:
            self._forget(sequence)
            self._changed.notify_all()

    def take(self, timeout_s: float) -> tuple[list[Numbered[Message]], list[Message]]:
        """Return unsent lifecycle messages, in order, and telemetry; wait at most `timeout_s`."""
        with self._changed:
            self._changed.wait_for(self._something_to_send, timeout_s)
            fresh = [n for n in self._pending if n.sequence > self._sent_up_to]
            if fresh:
                self._sent_up_to = fresh[-1].sequence
            telemetry = list(self._telemetry.values())
            self._telemetry.clear()
            return fresh, telemetry

    def wait_acknowledged(self, timeout_s: float) -> bool:
        """Wait until nothing is unacknowledged, or closed; return whether nothing is."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending or self._closed, timeout_s)
            return not self._pending

    def close(self) -> None:
        """Wake every waiter; nothing more will be sent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._pending)

    def _something_to_send(self) -> bool:
        newest = self._pending[-1].sequence if self._pending else 0
        return self._closed or newest > self._sent_up_to or bool(self._telemetry)

    def _forget(self, sequence: int) -> None:
        while self._pending and self._pending[0].sequence <= sequence:
            self._pending.popleft()


@dataclass(slots=True)
class Inbox:
    """Which lifecycle messages of which incarnation were received: duplicates are no-ops.

    `last` maps (run, incarnation) to the highest sequence seen; `stale` and `duplicates` count.
    Only the newest incarnation of a run is kept, so the inbox is bounded by the number of runs.
    """

    last: dict[str, tuple[int, int]] = field(default_factory=dict)
    stale: int = 0
    duplicates: int = 0

    def accept(self, run: str, incarnation: int, sequence: int) -> bool:
        """Return whether this message is new; count it if it is stale or a duplicate."""
        newest, seen = self.last.get(run, (0, 0))
        if incarnation < newest:
            self.stale += 1
            return False
        if incarnation > newest:
            seen = 0
        if sequence <= seen:
            self.duplicates += 1
            return False
        self.last[run] = (incarnation, sequence)
        return True

    def acknowledged(self, run: str, incarnation: int) -> int:
        """The highest sequence received from this incarnation."""
        newest, seen = self.last.get(run, (0, 0))
        return seen if newest == incarnation else 0

    def forget(self, run: str) -> None:
        """The run is gone."""
        self.last.pop(run, None)
