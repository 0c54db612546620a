"""A run's detail: where its time went, in one line."""

from __future__ import annotations

from trainerd.clients.report import time_text
from trainerd.v1 import run_pb2, timesheet_pb2


def run(**seconds: float) -> run_pb2.Run:
    times = [
        timesheet_pb2.ActivityTime(activity=f"ACTIVITY_{name.upper()}", seconds=spent)
        for name, spent in seconds.items()
    ]
    return run_pb2.Run(times=times)


def test_the_largest_parts_come_first_and_the_small_ones_together() -> None:
    told = time_text(run(queued=1, productive=180, init=4, restart=6, data_wait=5, compile=4))
    assert told == "90 % productive, 3 % restart, 2 % data wait, 2 % init, 2 % compile"
    parts = run(productive=90, compile=2, restart=2, data_wait=2, init=2, drain=1, queued=1)
    assert time_text(parts).startswith("90 % productive, 2 % ")
    assert time_text(parts).endswith(", 2 % other")


def test_what_is_next_to_nothing_is_not_told() -> None:
    assert time_text(run(productive=1000, drain=0.1)) == "100 % productive"


def test_a_run_whose_time_is_not_known_has_no_such_line() -> None:
    assert time_text(run_pb2.Run()) == ""


def test_an_activity_of_a_later_release_is_told_as_other() -> None:
    times = [timesheet_pb2.ActivityTime(activity=99, seconds=3.0)]
    assert time_text(run_pb2.Run(times=times)) == "100 % other"
