"""A run's time: whatever befalls it, the parts are the whole, and none of them ever shrinks."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from trainerd.daemon.supervision.activities import Activity, ActivityTime
from trainerd.daemon.supervision.events import RunState
from trainerd.daemon.timesheet import GONE_S, SLACK_S, Timesheet

S, A = RunState, Activity
_MARGIN_S = 1e-6


def times(**seconds: float) -> list[ActivityTime]:
    return [ActivityTime(activity=Activity(name), seconds=s) for name, s in seconds.items()]


def spent(sheet: Timesheet, now: float) -> dict[str, float]:
    """What is not zero."""
    return {a.value: round(s, 6) for a, s in sheet.seconds(now).items() if s}


def linked(at: float = 5.0) -> Timesheet:
    """Queued for 3 s, starting for 2 s, then linked and training."""
    sheet = Timesheet.of(0.0)
    sheet.moved(S.STARTING, 3.0)
    sheet.attached(1, times(init=0.5), at)
    sheet.moved(S.RUNNING, at)
    return sheet


def test_without_a_process_the_state_says_what_time_goes_to() -> None:
    sheet = Timesheet.of(10.0)
    assert spent(sheet, 13.0) == {"queued": 3}
    sheet.moved(S.STARTING, 14.0)
    assert spent(sheet, 15.0) == {"queued": 4, "init": 1}


def test_a_process_tells_what_its_time_went_to() -> None:
    sheet = linked()
    # Its first half second is part of the start, as it was shown before it was linked.
    assert spent(sheet, 5.0) == {"queued": 3, "init": 2}
    sheet.told(1, times(init=0.7, productive=0.8), 6.0)
    assert spent(sheet, 9.0) == {"queued": 3, "init": 2.2, "productive": 0.8}


def test_what_a_killed_process_did_not_tell_went_to_its_restart() -> None:
    sheet = linked()
    sheet.told(1, times(init=0.5, productive=3), 8.0)
    sheet.gone(1, times(init=0.5, productive=3.5), 9.0)
    sheet.moved(S.RECOVERING, 9.0)
    assert spent(sheet, 10.0) == {"queued": 3, "init": 2, "productive": 3.5, "restart": 1.5}
    sheet.attached(2, times(init=0.1), 11.0)
    sheet.told(2, times(init=0.1, recomputed=1), 12.0)
    assert sum(sheet.seconds(12.0).values()) == 12


def test_a_second_start_is_no_first_one() -> None:
    sheet = linked()
    sheet.finished(1)
    sheet.gone(1, times(init=0.5, productive=4), 9.0)
    sheet.moved(S.QUEUED, 9.0)
    sheet.moved(S.STARTING, 10.0)
    assert spent(sheet, 12.0) == {"queued": 4, "init": 2, "productive": 4, "restart": 2}


def test_the_rest_of_a_process_that_has_finished_is_drain() -> None:
    sheet = linked()
    sheet.finished(1)
    sheet.moved(S.COMPLETED, 9.0)
    sheet.gone(1, times(init=0.5, productive=3.8), 9.5)
    assert spent(sheet, 99.0) == {"queued": 3, "init": 2, "productive": 3.8, "drain": 0.7}


def test_a_process_that_trained_before_it_was_linked_is_believed() -> None:
    sheet = Timesheet.of(0.0)
    sheet.moved(S.STARTING, 1.0)
    sheet.attached(1, times(init=1, productive=50), 60.0)
    assert spent(sheet, 60.0) == {"queued": 1, "init": 9, "productive": 50}


def test_a_link_that_comes_back_counts_nothing_twice() -> None:
    sheet = linked()
    sheet.told(1, times(init=0.5, productive=3), 8.0)
    sheet.attached(1, times(init=0.5, productive=5), 10.0)
    assert spent(sheet, 10.0) == {"queued": 3, "init": 2, "productive": 5}


def test_a_process_cannot_tell_of_more_time_than_there_was() -> None:
    sheet = linked()
    sheet.told(1, times(productive=1e9, paused=1e9), 6.0)
    assert sum(sheet.seconds(6.0).values()) <= 6.0 + SLACK_S + _MARGIN_S


def test_news_of_another_process_counts_for_nothing() -> None:
    sheet = linked()
    sheet.told(7, times(productive=3), 8.0)
    sheet.gone(7, times(productive=3), 8.0)
    sheet.finished(7)
    assert spent(sheet, 8.0) == {"queued": 3, "init": 2}


def test_a_process_whose_exit_nobody_reports_is_gone_when_the_next_one_starts() -> None:
    sheet = linked()
    sheet.told(1, times(init=0.5, productive=3), 8.0)
    sheet.spawned(2, 20.0)
    assert spent(sheet, 21.0) == {"queued": 3, "init": 2, "productive": 3, "restart": 13}


def test_a_run_that_ended_with_a_process_nobody_heard_of_again_is_whole() -> None:
    sheet = linked()
    sheet.told(1, times(init=0.5, productive=3), 8.0)
    sheet.moved(S.FAILED, 20.0)
    assert sum(sheet.seconds(20.0 + GONE_S + 1).values()) == 20.0


class Life:
    """A run as it goes: moments pass, its process says what it did, or nobody does."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sheet = Timesheet.of(0.0)
        self.replayed = Timesheet.of(0.0)
        self.incarnation = 0
        self.alive = False
        self.done: dict[Activity, float] = {}
        self.shown = self.sheet.seconds(0.0)

    def tell(self) -> list[ActivityTime]:
        return [ActivityTime(activity=a, seconds=s) for a, s in self.done.items()]

    def play(self, move: str, wait_s: float, activity: Activity, state: RunState) -> None:
        self.now += wait_s
        if self.alive:
            self.done[activity] = self.done.get(activity, 0.0) + wait_s
        match move:
            case "link" if not self.alive:
                self.incarnation += 1
                self.alive, self.done = True, {}
                self._both("attached", self.incarnation, [], self.now)
            case "link again" if self.alive:
                self._both("attached", self.incarnation, self.tell(), self.now)
            case "tell" if self.alive:
                # Telemetry: the next daemon never hears of it.
                self.sheet.told(self.incarnation, self.tell(), self.now)
            case "die" if self.alive:
                self.alive = False
                self._both("gone", self.incarnation, self.tell(), self.now)
            case "finish" if self.alive:
                self._both("finished", self.incarnation)
            case "move":
                self._both("moved", state, self.now)
            case _:
                pass
        self.check()

    def _both(self, name: str, *arguments: object) -> None:
        for sheet in (self.sheet, self.replayed):
            getattr(sheet, name)(*arguments)

    def check(self) -> None:
        shown = self.sheet.seconds(self.now)
        total_s = sum(shown.values())
        assert all(shown[a] >= self.shown[a] - _MARGIN_S for a in Activity), "a counter fell"
        self.shown = shown
        assert total_s <= self.now + _MARGIN_S
        if not self.alive:
            assert abs(total_s - self.now) < _MARGIN_S
            again = self.replayed.seconds(self.now)
            assert all(abs(again[a] - shown[a]) < _MARGIN_S for a in Activity)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["link", "link again", "tell", "die", "finish", "move", "wait"]),
        st.floats(0.0, 100.0),
        st.sampled_from([a for a in Activity if a not in (A.RESTART, A.QUEUED)]),
        st.sampled_from([S.QUEUED, S.STARTING, S.RUNNING, S.RECOVERING, S.PAUSED, S.STOPPING]),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(MOVES)
def test_the_parts_are_the_whole_and_never_fall_whatever_happens(
    moves: Iterable[tuple[str, float, Activity, RunState]],
) -> None:
    life = Life()
    for move in moves:
        life.play(*move)
