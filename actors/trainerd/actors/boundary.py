"""Requests on their way: from `Controls` into the control word, and back out one step late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainerd.actors import control
from trainerd.actors.reports import Controls, FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What all processes have agreed to do once the step in flight is done.

    `snapshot`: take one; `rules`: adopt the newest.
    """

    pause: bool = False
    save: bool = False
    snapshot: bool = False
    rules: bool = False
    stop: FinishReason | None = None
    stop_saves: bool = True

    def __bool__(self) -> bool:
        wanted = self.pause or self.save or self.snapshot or self.rules
        return wanted or self.stop is not None

    def also(self, other: Wishes) -> Wishes:
        """Both; the first reason to stop stays, a stop without saving wins."""
        return Wishes(
            pause=self.pause or other.pause,
            save=self.save or other.save,
            snapshot=self.snapshot or other.snapshot,
            rules=self.rules or other.rules,
            stop=self.stop or other.stop,
            stop_saves=self.stop_saves and other.stop_saves,
        )


class Boundary:
    """Looks at `Controls` at a step boundary; keeps the names of saves until they are begun."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._save_ids: list[str] = []
        self._saves = False

    def word(self, *, bad_data: bool = False, elective: int = 0, clock: int = 0) -> control.Word:
        """Return this process's control word for the next step."""
        wishes = self.asked()
        ends = control.WITH_SAVE if wishes.stop_saves else control.WITHOUT_SAVE
        preempted = wishes.stop is FinishReason.PREEMPTED
        return control.word(
            pause=int(wishes.pause),
            save=int(wishes.save),
            stop=ends if wishes.stop is not None and not preempted else 0,
            preempt=ends if preempted else 0,
            bad_data=int(bad_data),
            elective=elective,
            clock=clock,
        )

    def asked(self) -> Wishes:
        """What this process is asked for now, agreed on or not."""
        requests = self._controls.take()
        if requests.save is not None:
            self._saves = True
            self._save_ids += [name for name in requests.save if name not in self._save_ids]
        return Wishes(
            pause=requests.pause,
            save=self._saves,
            stop=requests.stop,
            stop_saves=requests.stop_saves,
        )

    def take_save_ids(self) -> tuple[str, ...]:
        """Hand over the names of all saves asked for; the save that begins now answers them."""
        ids = tuple(name for name in self._save_ids if name)
        self._save_ids.clear()
        self._saves = False
        return ids

    def wait_while_paused(self, timeout_s: float) -> bool:
        """Block until something other than the pause is asked for; False after the timeout."""
        return self._controls.wait_while_paused(timeout_s)


def agreed(word: control.Word) -> Wishes:
    """Read the reduced control word of a step."""
    lanes: list[int] = np.asarray(word).tolist()
    stop, preempt = lanes[control.STOP], lanes[control.PREEMPT]
    elective = lanes[control.ELECTIVE]
    reason = FinishReason.PREEMPTED if preempt else FinishReason.STOPPED if stop else None
    return Wishes(
        pause=bool(lanes[control.PAUSE]),
        save=bool(lanes[control.SAVE] or elective & control.ELECTIVE_SAVE),
        snapshot=bool(elective & control.ELECTIVE_SNAPSHOT),
        rules=bool(elective & control.ELECTIVE_RULES),
        stop=reason,
        stop_saves=max(stop, preempt) != control.WITHOUT_SAVE,
    )
