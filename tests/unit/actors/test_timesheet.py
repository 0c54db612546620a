"""How a trainer books its own time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainerd.actors.launcher.runs import RunFiles
from trainerd.actors.launcher.times import taken
from trainerd.actors.reports import Phase, Quiet
from trainerd.actors.stage import Stage
from trainerd.actors.timesheet import Activity, Timesheet
from trainerd.actors.timesheet_file import TimesheetFile
from trainerd.daemon.supervision.activities import Activity as Known
from trainerd.v1 import launcher_pb2, timesheet_pb2

A = Activity


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Hand:
    return Hand()


def test_time_goes_to_what_was_turned_to_last(clock: Hand) -> None:
    sheet = Timesheet(clock)
    clock.now_s += 1
    assert sheet.turn(A.COMPILE) is A.INIT
    clock.now_s += 2
    with sheet.within(A.SNAPSHOT):
        clock.now_s += 4
    clock.now_s += 8
    assert sheet.spent_s() == {A.INIT: 1, A.COMPILE: 10, A.SNAPSHOT: 4}


def test_a_block_that_raises_gives_the_time_back(clock: Hand) -> None:
    sheet = Timesheet(clock)

    def fail() -> None:
        with sheet.within(A.DECISION_WAIT):
            clock.now_s += 3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    clock.now_s += 1
    assert sheet.spent_s() == {A.DECISION_WAIT: 3, A.INIT: 1}


@given(st.lists(st.tuples(st.floats(0, 1e6), st.sampled_from(A), st.booleans()), max_size=30))
def test_the_parts_are_the_whole_and_never_fall(moves: list[tuple[float, Activity, bool]]) -> None:
    clock = Hand()
    sheet = Timesheet(clock)
    before = sheet.spent_s()
    for wait_s, activity, inside in moves:
        clock.now_s += wait_s
        if inside:
            with sheet.within(activity):
                clock.now_s += wait_s
        else:
            sheet.turn(activity)
        spent_s = sheet.spent_s()
        assert sum(spent_s.values()) == pytest.approx(clock.now_s - 100.0)
        assert all(spent_s[each] >= seconds - 1e-6 for each, seconds in before.items())
        before = spent_s


def test_it_may_be_read_while_it_is_kept() -> None:
    sheet = Timesheet()
    sums: list[float] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            sums.append(sum(sheet.spent_s().values()))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(2000):
        sheet.turn(A.PRODUCTIVE)
        sheet.turn(A.DATA_WAIT)
    over.set()
    reader.join()
    assert sums == sorted(sums)


def test_a_step_that_was_reached_before_is_recomputed(clock: Hand) -> None:
    sheet = Timesheet(clock)
    stage = Stage(Quiet(), sheet, reached_step=12)
    stage.enter(Phase.FIRST_STEP, 10)
    clock.now_s += 1
    stage.enter(Phase.STEP, 11)
    clock.now_s += 2
    stage.enter(Phase.STEP, 12)
    clock.now_s += 4
    stage.enter(Phase.STEP, 15)
    # Back to an older state in the same process.
    stage.enter(Phase.RESTORE, 15)
    clock.now_s += 8
    stage.enter(Phase.STEP, 13)
    clock.now_s += 16
    stage.enter(Phase.STEP, 15)
    clock.now_s += 32
    assert sheet.spent_s() == {
        A.INIT: 0,
        A.RECOMPUTED: 1 + 2 + 16,
        A.PRODUCTIVE: 4 + 32,
        A.RESTORE: 8,
    }


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_is_an_activity(phase: Phase, clock: Hand) -> None:
    sheet = Timesheet(clock)
    Stage(Quiet(), sheet).enter(phase, 0)
    clock.now_s += 1
    (activity,) = [each for each, seconds in sheet.spent_s().items() if seconds]
    assert activity.value in {each.value for each in Known}


def test_what_a_trainer_may_tell_is_known_to_all() -> None:
    names = {
        name.removeprefix("ACTIVITY_").lower()
        for name in timesheet_pb2.Activity.DESCRIPTOR.values_by_name
    }
    assert names - {"unspecified"} == {each.value for each in Known}
    # What no process can tell of itself.
    assert {each.value for each in Known} - {each.value for each in A} == {"restart", "queued"}


def test_a_timesheet_outlives_its_process(tmp_path: Path, clock: Hand) -> None:
    sheet = Timesheet(clock)
    assignment = launcher_pb2.Assignment(run_directory=str(tmp_path), incarnation=3)
    file = TimesheetFile.of(assignment, sheet)
    clock.now_s += 1
    file.write()
    sheet.turn(A.PRODUCTIVE)
    clock.now_s += 5
    file.write()
    place = RunFiles(root=tmp_path).times(3)
    assert taken(place) == {"ACTIVITY_INIT": 1.0, "ACTIVITY_PRODUCTIVE": 5.0}
    assert not place.exists()
    assert taken(place) == {}


@pytest.mark.parametrize("spoilt", [b"", b"\xff" * 99, b"x" * 9999])
def test_a_spoilt_timesheet_is_none(tmp_path: Path, spoilt: bytes) -> None:
    place = tmp_path / "times-1"
    place.write_bytes(spoilt)
    assert taken(place) == {}


def test_a_disk_that_refuses_is_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Hand
) -> None:
    file = TimesheetFile(tmp_path / "missing" / "times-1", Timesheet(clock))
    file.write()
    file.write()
    assert capsys.readouterr().err.count("the timesheet is not written") == 1
    TimesheetFile.of(launcher_pb2.Assignment(), Timesheet(clock)).write()
