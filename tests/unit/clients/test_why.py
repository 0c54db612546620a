"""`trainerctl why`: the explanation as sentences, and as it came with --json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from trainerd.clients.explanation import explained
from trainerd.v1 import control_pb2 as api
from trainerd.v1 import event_pb2, fault_pb2
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl, a_run

Ctl = Callable[..., Ended]
CRASH = fault_pb2.FAULT_CLASS_CRASH


def event(sequence: int, **payload: Any) -> event_pb2.Event:
    time = Timestamp(seconds=1_700_000_000 + sequence)
    return event_pb2.Event(sequence=sequence, time=time, run="demo-1a2b", incarnation=1, **payload)


def budget(fault_class: int, **fields: Any) -> api.BudgetUse:
    return api.BudgetUse(**{"class": fault_class, "window_s": 600.0, **fields})


def answer() -> api.ExplainRunResponse:
    decision = fault_pb2.Decision(
        action=fault_pb2.ACTION_RESTART, scope="process", delay_s=4.0, reason="crash 3 in 600 s"
    )
    made = event_pb2.DecisionMade(fault=fault_pb2.Fault(**{"class": CRASH}), decision=decision)
    fault = fault_pb2.Fault(
        **{"class": fault_pb2.FAULT_CLASS_STEP_EXCEPTION},
        message="ValueError: no",
        detail="\n".join(f"line {n}" for n in range(30)),
    )
    return api.ExplainRunResponse(
        run=a_run("recovering", reason="crash: killed"),
        story=[
            event(1, trainer_exited=event_pb2.TrainerExited(exit_code=-1, signal=9)),
            event(2, decision_made=made),
            event(3, fault_raised=event_pb2.FaultRaised(fault=fault)),
        ],
        budgets=[
            budget(CRASH, used=3, limit=20),
            budget(fault_pb2.FAULT_CLASS_NON_FINITE_STEP, limit=10, in_a_row=1, consecutive=3),
            budget(fault_pb2.FAULT_CLASS_CHECKPOINT_SAVE_FAILED, used=7),
        ],
        cycles=2,
        max_cycles=3,
        upcoming=[api.Upcoming(kind=api.UPCOMING_KIND_RESTART, in_s=3.2)],
    )


def test_it_tells_the_story_the_budgets_and_what_comes_next(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("ExplainRun", answer())
    ended = ctl("why", "demo", "--address", fake.address)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "demo-1a2b is recovering: crash: killed"
    assert "trainer 1 was killed with SIGKILL" in lines[3]
    assert "decision on crash: restart the process in 4 s: crash 3 in 600 s" in lines[4]
    assert "ValueError: no" in lines[5]
    assert lines[6:18] == [f"      | line {n}" for n in range(18, 30)]
    assert lines[18:] == [
        "",
        "what happens next:",
        "  a new trainer starts in 3.2 s",
        "",
        "used up:",
        "  crash: 3 of 20 in 10 min 00 s",
        "  non_finite_step: 0 of 10 in 10 min 00 s, 1 of 2 in a row",
        "  checkpoint_save_failed: 7 in 10 min 00 s",
        "  2 restarts since step 150 was saved; 3 are allowed",
    ]


def test_with_json_it_is_the_api_s_answer(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("ExplainRun", answer())
    document = ctl("why", "demo", "--address", fake.address, "--json").document
    assert document["upcoming"][0]["inS"] == 3.2
    assert "limit" not in document["budgets"][2]


def test_a_run_that_trains_has_only_its_state(fake: FakeControl) -> None:
    assert explained(api.ExplainRunResponse(run=a_run())) == ["demo-1a2b is running: trains"]


@pytest.mark.parametrize("kind", [number for number in api.UpcomingKind.values() if number])
def test_everything_that_may_come_has_its_words(kind: int) -> None:
    upcoming = api.Upcoming(kind=kind, run="other-run", in_s=61.0)
    told = explained(api.ExplainRunResponse(run=a_run(), upcoming=[upcoming]))[-1]
    assert "newer" not in told
    assert "{" not in told
    assert ("1 min 01 s" in told) or kind in (7, 8, 9)


def test_what_a_newer_daemon_says_is_told_as_such() -> None:
    newer = api.ExplainRunResponse.FromString(
        api.ExplainRunResponse(run=a_run(), upcoming=[api.Upcoming(kind=99)]).SerializeToString()
    )
    assert explained(newer)[-1] == "  something newer than this trainerctl"
