"""The meeting of a gang whose members are threads of the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainerd.actors.gang_meeting import NotYet, Word


@dataclass
class Room:
    """What was said."""

    words: dict[str, str] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting: dict[str, set[int]] = field(default_factory=dict)

    def entered(self, timeout_s: float = 20.0) -> None:
        """Wait until a member has said something, or waits for the others."""
        with self.changed:
            met = self.changed.wait_for(lambda: self.words or self.waiting, timeout_s)
        assert met, "nobody has come"


@dataclass
class RoomMeeting:
    """One member's meeting. Implements `Meeting`."""

    room: Room
    process_id: int
    process_count: int

    def say(self, name: str, word: Word) -> None:
        with self.room.changed:
            assert name not in self.room.words, f"{name} was said before"
            self.room.words[name] = json.dumps(word)
            self.room.changed.notify_all()

    def hear(self, name: str, timeout_s: float) -> Word:
        with self.room.changed:
            if not self.room.changed.wait_for(lambda: name in self.room.words, timeout_s):
                raise NotYet(f"{name} was not said")
            word: Word = json.loads(self.room.words[name])
            return word

    def heard(self, prefix: str) -> dict[str, Word]:
        with self.room.changed:
            return {
                name.removeprefix(f"{prefix}/"): json.loads(said)
                for name, said in self.room.words.items()
                if name.startswith(f"{prefix}/")
            }

    def forget(self, name: str) -> None:
        with self.room.changed:
            del self.room.words[name]

    def together(self, name: str, timeout_s: float) -> None:
        with self.room.changed:
            here = self.room.waiting.setdefault(name, set())
            here.add(self.process_id)
            self.room.changed.notify_all()
            if not self.room.changed.wait_for(lambda: len(here) == self.process_count, timeout_s):
                raise NotYet(f"not all came to {name}")


def at_once(*acts: Callable[[], Any], deadline_s: float = 20.0) -> list[Any]:
    """Let each act in a thread of its own; return what they return, or raise what one raises."""
    results: list[Any] = [None] * len(acts)
    raised: list[BaseException] = []

    def run(at: int, act: Callable[[], Any]) -> None:
        try:
            results[at] = act()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline_s)
        assert not thread.is_alive(), "a member waits for ever"
    for error in raised:
        raise error
    return results
