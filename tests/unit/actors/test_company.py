"""What the members of a gang decide together: one clock, one decision, one account of an error."""

from __future__ import annotations

import threading

import pytest

from fakes.launcher_process import wait_until
from fakes.meeting import Room, RoomMeeting, at_once
from trainerd.actors import control
from trainerd.actors.boundary import Boundary
from trainerd.actors.company import Alone, Members
from trainerd.actors.errors import DataError, PeerLostError
from trainerd.actors.reports import Controls, FinishReason, Judgement, Verdict


def members(count: int = 2, clock: list[float] | None = None) -> list[Members]:
    room = Room()
    now = clock or [0.0]
    return [
        Members(RoomMeeting(room, number, count), clock=lambda: now[0]) for number in range(count)
    ]


def not_asked() -> Judgement:
    raise AssertionError("the first member asks, and no other")


def test_the_first_member_asks_and_all_hear_the_same() -> None:
    first, second, third = members(3)
    decided = Judgement(verdict=Verdict.ROLLBACK, rollback_steps=7)
    said = at_once(
        lambda: first.judged(lambda: decided),
        lambda: second.judged(not_asked),
        lambda: third.judged(not_asked),
    )
    assert said == [decided] * 3


def test_all_go_by_the_clock_of_the_first_member() -> None:
    clock = [100.0]
    first, second = members(clock=clock)
    clock[0] = 142.9
    assert (first.clock_lane(), second.clock_lane()) == (42, 0)
    word = control.word(clock=42)
    for member in (first, second):
        member.landed(word)
        assert member.now() == 42.0
    clock[0] = 500.0
    assert first.now() == 42.0


def test_the_source_that_raised_is_named_to_all() -> None:
    first, second = members()
    error = DataError("example 3 is broken", batch=5, suggestion="mend it", detail="a traceback")
    second.tell_error(error)
    told = first.error_of(5)
    assert (told.message, told.batch) == ("process 1: example 3 is broken", 5)
    assert (told.suggestion, told.detail) == ("mend it", "a traceback")
    # Nobody waits for what was not told.
    assert first.error_of(6).message == "the source of another process raised"


def test_a_stop_that_reaches_a_member_who_waits_is_passed_on_to_the_first() -> None:
    first, second = members()
    controls = Controls()
    controls.stop(FinishReason.PREEMPTED)
    boundary = Boundary(controls)

    def lead() -> None:
        wait_until(lambda: first.asked().stop is not None, "the stop")
        first.minute("pause_over", stop=first.asked().stop.value, saves=True)

    _, told = at_once(
        lead, lambda: second.next_minute("pause_over", limit_s=20.0, boundary=boundary)
    )
    assert told["stop"] == "preempted"


def test_a_pause_holds_until_the_last_member_is_told_to_go_on() -> None:
    first, second, third = members(3)
    controls = [Controls(), Controls()]
    for member in (first, second, third):
        member.pauses()
    # Nobody knows yet what the others are asked for.
    assert first.asked(pausing=True).pause
    controls[0].pause()
    over = threading.Event()

    def follow(member: Members, own: Controls) -> object:
        return member.next_minute("pause_over", limit_s=20.0, boundary=Boundary(own))["kind"]

    def lead() -> None:
        wait_until(lambda: len(first._meeting.heard("asked")) == 2, "both to say so")
        assert first.asked(pausing=True).pause
        assert not first.asked().pause
        controls[0].resume()
        wait_until(lambda: not first.asked(pausing=True).pause, "the end of the pause")
        over.set()
        first.minute("pause_over")

    said = at_once(lead, lambda: follow(second, controls[0]), lambda: follow(third, controls[1]))
    assert said[1:] == ["pause_over"] * 2
    assert over.is_set()


def test_members_at_different_points_are_not_led_astray() -> None:
    first, second = members()
    first.minute("paused")
    with pytest.raises(PeerLostError, match="'paused' where this one waited for judgement"):
        second.judged(not_asked)


def test_nobody_waits_for_the_first_member_for_ever() -> None:
    _, second = members()
    with pytest.raises(PeerLostError, match="was not said"):
        second.next_minute("ended", limit_s=0.05)


def test_old_minutes_are_forgotten() -> None:
    room = Room()
    first = Members(RoomMeeting(room, 0, 2))
    for _ in range(200):
        first.minute("rules")
    assert len(room.words) == 64


def test_who_is_alone_decides_alone() -> None:
    alone = Alone(lambda: 3.5)
    assert (alone.alone, alone.leads, alone.now()) == (True, True, 3.5)
    assert alone.judged(lambda: Judgement(verdict=Verdict.SKIP)).verdict is Verdict.SKIP
