"""Who trains with this process: nobody, or the other members of a gang.

All members run the same loop on the same state and come to the same points in the same order, so
that whatever follows from a step's outputs needs no agreement. What depends on one process alone
goes two ways. Requests travel in the control word, are read one step late by all, and are carried
out by all at the same boundary. What only the first member knows, its clock, its daemon's decisions
and how a save ended, the others do not ask of their own: they wait for its next *minute*.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from trainerd.actors import control
from trainerd.actors.boundary import Boundary, Wishes
from trainerd.actors.errors import DataError, PeerLostError
from trainerd.actors.gang_meeting import Meeting, NotYet, Word
from trainerd.actors.reports import FinishReason, Judgement, Verdict

DECISION_S = 150.0
"""How long the first member may take to hear what is to be done about a fault."""
_SLICE_S = 0.5
_KEPT = 64
"""Minutes that stay: nobody is as many behind."""

Minute = Mapping[str, Any]


class Company(Protocol):
    """The other members. Owned by the loop, but for `tell_error`."""

    @property
    def alone(self) -> bool: ...

    @property
    def leads(self) -> bool:
        """Whether this is the first member, or alone: it reports, asks, and saves."""

    def now(self) -> float:
        """Seconds by a clock that all members share, as of the last step that has landed."""

    def landed(self, word: control.Word) -> None:
        """A step has landed with this agreed control word."""

    def clock_lane(self) -> int:
        """What this member says of the time in its next control word."""

    def judged(self, decide: Callable[[], Judgement]) -> Judgement:
        """What is to be done about a fault that all members see now; the first one asks."""

    def minute(self, kind: str, **values: Any) -> None:
        """Say the next minute, if this is the first member."""

    def next_minute(self, *kinds: str, limit_s: float, boundary: Boundary | None = None) -> Minute:
        """Wait for the first member's next minute, which is of one of these kinds.

        What this member is asked to do meanwhile is passed on to the first one.
        """

    def pauses(self) -> None:
        """All members begin to pause now."""

    def asked(self, *, pausing: bool = False) -> Wishes:
        """What the other members are asked for while all wait for the first one.

        A stop; and with `pausing` the pause there is, which holds as long as any member is to hold.
        """

    def tell_error(self, error: DataError) -> None:
        """This member's source raised for a batch: let the others know why they skip it."""

    def error_of(self, batch: int) -> DataError:
        """Why all skip a batch that another member's source raised for."""


class Alone:
    """Nobody else. Implements `Company`."""

    alone = leads = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock

    def landed(self, word: control.Word) -> None: ...

    def clock_lane(self) -> int:
        return 0

    def judged(self, decide: Callable[[], Judgement]) -> Judgement:
        return decide()

    def minute(self, kind: str, **values: Any) -> None: ...

    def next_minute(self, *kinds: str, limit_s: float, boundary: Boundary | None = None) -> Minute:  # noqa: ARG002
        raise AssertionError("who is alone waits for nobody")

    def pauses(self) -> None: ...

    def asked(self, *, pausing: bool = False) -> Wishes:  # noqa: ARG002 - nobody is asked
        return Wishes()

    def tell_error(self, error: DataError) -> None: ...

    def error_of(self, batch: int) -> DataError:
        raise AssertionError(f"who is alone knows why its source raised for batch {batch}")


class Members:
    """The members of a gang. Implements `Company`; `clock` is the first one's."""

    alone = False

    def __init__(self, meeting: Meeting, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._meeting, self._clock = meeting, clock
        self.leads = meeting.process_id == 0
        self._began_s = clock()
        self._now_s = 0.0
        self._minutes = 0
        self._pauses = self._words = 0
        self._passed_on: Word | None = None

    def now(self) -> float:
        """See `Company`."""
        return self._now_s

    def landed(self, word: control.Word) -> None:
        """See `Company`."""
        self._now_s = float(word[control.CLOCK])

    def clock_lane(self) -> int:
        """See `Company`."""
        return int(self._clock() - self._began_s) if self.leads else 0

    def judged(self, decide: Callable[[], Judgement]) -> Judgement:
        """See `Company`."""
        if self.leads:
            judgement = decide()
            self.minute(
                "judgement", verdict=judgement.verdict.value, steps=judgement.rollback_steps
            )
            return judgement
        told = self.next_minute("judgement", limit_s=DECISION_S)
        return Judgement(verdict=Verdict(told["verdict"]), rollback_steps=int(told["steps"]))

    def minute(self, kind: str, **values: Any) -> None:
        """See `Company`."""
        if not self.leads:
            return
        self._minutes += 1
        self._meeting.say(f"minutes/{self._minutes}", {"kind": kind, **values})
        if self._minutes > _KEPT:
            self._meeting.forget(f"minutes/{self._minutes - _KEPT}")

    def next_minute(self, *kinds: str, limit_s: float, boundary: Boundary | None = None) -> Minute:
        """See `Company`."""
        until_s = time.monotonic() + limit_s
        name = f"minutes/{self._minutes + 1}"
        while True:
            if boundary is not None:
                self._pass_on(boundary.asked())
            left_s = until_s - time.monotonic()
            try:
                told = self._meeting.hear(name, max(0.001, min(_SLICE_S, left_s)))
                break
            except NotYet:
                if left_s <= _SLICE_S:
                    raise
        self._minutes += 1
        if told["kind"] not in kinds:
            raise PeerLostError(
                f"the first process said {told['kind']!r} where this one waited for "
                f"{' or '.join(kinds)}: the processes do not run the same program"
            )
        return told

    def pauses(self) -> None:
        """See `Company`."""
        self._pauses += 1

    def asked(self, *, pausing: bool = False) -> Wishes:
        """See `Company`."""
        newest: dict[str, tuple[int, Word]] = {}
        for name, word in self._meeting.heard("asked").items():
            member, _, number = name.partition("/")
            newest[member] = max(newest.get(member, (0, word)), (int(number), word), key=_first)
        wishes = Wishes()
        for _, word in newest.values():
            if word["stop"]:
                reason = FinishReason(word["stop"])
                wishes = wishes.also(Wishes(stop=reason, stop_saves=bool(word["saves"])))
        said = [word["pause"] for _, word in newest.values() if word["pauses"] == self._pauses]
        # Who has not come to this pause yet may be the one who asked for it.
        holds = any(said) or len(said) < self._meeting.process_count - 1
        return wishes.also(Wishes(pause=pausing and holds))

    def tell_error(self, error: DataError) -> None:
        """See `Company`."""
        self._meeting.say(
            f"errors/{error.batch}/{self._meeting.process_id}",
            {"message": error.message, "suggestion": error.suggestion, "detail": error.detail},
        )

    def error_of(self, batch: int) -> DataError:
        """See `Company`."""
        told = self._meeting.heard(f"errors/{batch}")
        if not told:
            return DataError("the source of another process raised", batch=batch)
        member, word = min(told.items())
        return DataError(
            f"process {member}: {word['message']}",
            batch=batch,
            suggestion=str(word["suggestion"]),
            detail=str(word["detail"]),
        )

    def _pass_on(self, asked: Wishes) -> None:
        word = {
            "pauses": self._pauses,
            "pause": asked.pause,
            "stop": asked.stop.value if asked.stop else "",
            "saves": asked.stop_saves,
        }
        if word != self._passed_on:
            self._passed_on = word
            self._words += 1
            self._meeting.say(f"asked/{self._meeting.process_id}/{self._words}", word)


def _first(numbered: tuple[int, Word]) -> int:
    return numbered[0]
