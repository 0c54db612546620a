"""What of runs that have ended is still on /metrics."""

from __future__ import annotations

from trainerd.daemon.ended_runs import KEEP_RUNS, KEEP_S, SETTLE_S, EndedRuns


def test_a_run_settles_once_a_while_after_its_end() -> None:
    ended = EndedRuns()
    ended.add("a", 1000.0)
    assert ended.settled(1000.0 + SETTLE_S) == []
    assert ended.settled(1001.0 + SETTLE_S) == ["a"]
    assert ended.settled(1002.0 + SETTLE_S) == []


def test_a_run_expires_a_day_after_its_end_unless_it_is_deleted_before() -> None:
    ended = EndedRuns()
    ended.add("a", 0.0)
    ended.add("b", 0.0)
    ended.forget("b")
    assert ended.expired(KEEP_S) == []
    assert ended.expired(KEEP_S + 1) == ["a"]


def test_of_very_many_the_newest_are_kept() -> None:
    ended = EndedRuns()
    for number in range(KEEP_RUNS + 2):
        ended.add(f"r-{number}", float(-number))
    assert set(ended.expired(1.0)) == {f"r-{KEEP_RUNS}", f"r-{KEEP_RUNS + 1}"}
