"""What the members of a gang say to each other beside their steps: small words, with deadlines.

Members run the same loop and come to the same points in the same order. Whatever depends on one
process alone, such as its clock, its disk or its daemon, is decided by the first member and said to
the others where they come to it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Protocol

import jax

from trainerd.actors.errors import PeerLostError

Word = Mapping[str, Any]
"""JSON values by name."""


class NotYet(PeerLostError):
    """Nothing was said in time; it may still be."""


class Client(Protocol):
    """What is used of JAX's client of the coordination service."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...

    def key_value_delete(self, key: str) -> None: ...

    def wait_at_barrier(self, barrier_id: str, timeout_in_ms: int) -> None: ...


class Meeting(Protocol):
    """Words are kept until the gang is gone; none is said twice under one name."""

    @property
    def process_id(self) -> int: ...

    @property
    def process_count(self) -> int: ...

    def say(self, name: str, word: Word) -> None:
        """Say `word` to whoever asks for `name`."""

    def hear(self, name: str, timeout_s: float) -> Word:
        """Wait for the word of that name. Raises `NotYet`, or another `PeerLostError`."""

    def heard(self, prefix: str) -> dict[str, Word]:
        """All words by now whose names begin so, by the rest of their names."""

    def forget(self, name: str) -> None:
        """Nobody will ask for that name again."""

    def together(self, name: str, timeout_s: float) -> None:
        """Wait until all are here. Raises `PeerLostError`."""


class KeyValueMeeting:
    """Implements `Meeting` over the coordination service. `topic`: what this one is about."""

    def __init__(
        self, client: Client, *, process_id: int, process_count: int, topic: str = "gang"
    ) -> None:
        self._client, self._topic = client, topic
        self.process_id, self.process_count = process_id, process_count

    def say(self, name: str, word: Word) -> None:
        """See `Meeting`."""
        self._client.key_value_set(self._key(name), json.dumps(word))

    def hear(self, name: str, timeout_s: float) -> Word:
        """See `Meeting`."""
        try:
            said = self._client.blocking_key_value_get(self._key(name), _ms(timeout_s))
        except jax.errors.JaxRuntimeError as error:
            raise _lost(error, f"{name!r} was not said", timeout_s) from error
        word: Word = json.loads(said)
        return word

    def heard(self, prefix: str) -> dict[str, Word]:
        """See `Meeting`."""
        folder = self._key(prefix)
        return {
            name.removeprefix(folder).lstrip("/"): json.loads(said)
            for name, said in self._client.key_value_dir_get(folder)
        }

    def forget(self, name: str) -> None:
        """See `Meeting`."""
        self._client.key_value_delete(self._key(name))

    def together(self, name: str, timeout_s: float) -> None:
        """See `Meeting`."""
        try:
            self._client.wait_at_barrier(self._key(name), _ms(timeout_s))
        except jax.errors.JaxRuntimeError as error:
            raise _lost(error, f"not all came to {name!r}", timeout_s) from error

    def _key(self, name: str) -> str:
        return f"trainerd/{self._topic}/{name}"


def everybody(meeting: Meeting, name: str, word: Word, timeout_s: float) -> list[Word]:
    """Say `word` and return what each member said under `name`, in the members' order.

    Raises `PeerLostError` where somebody has not said it in time.
    """
    meeting.say(f"{name}/{meeting.process_id}", word)
    until_s = time.monotonic() + timeout_s
    return [
        meeting.hear(f"{name}/{member}", max(0.001, until_s - time.monotonic()))
        for member in range(meeting.process_count)
    ]


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _lost(error: Exception, what: str, timeout_s: float) -> PeerLostError:
    if "DEADLINE_EXCEEDED" in str(error):
        return NotYet(f"{what} by another process within {timeout_s:g} s")
    lines = str(error).strip().splitlines() or ["no message"]
    return PeerLostError(f"{what} by another process: {lines[0]}")
