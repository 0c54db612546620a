"""The journal in the log: each record a line with its run, incarnation, step and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from trainerd.daemon.narration import narrate
from trainerd.daemon.supervision.events import (
    FaultRaised,
    PhaseEntered,
    StopRequested,
    TrainerExited,
)
from trainerd.daemon.supervision.faults import Fault, Phase
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.v1 import event_pb2
from unit.daemon.house import play
from unit.daemon.parts import parts


def told(tmp_path: Path, *events: Any) -> list[dict[str, Any]]:
    """What is told of events that befall a running run."""
    lines: list[dict[str, Any]] = []

    async def scene() -> None:
        async with parts(tmp_path) as at:
            await at.running_run()
            at.runtime.observe(narrate)
            with capture_logs() as said:
                for event in events:
                    await at.runtime.post(event)
            lines.extend(dict(line) for line in said)

    play(scene)
    return lines


def test_a_crash_is_told_with_what_is_decided_and_why(tmp_path: Path) -> None:
    exited = TrainerExited(
        run="r-1", incarnation=1, exit_code=-1, signal=9, killed_by_launcher=False, log_tail="x\ny"
    )
    lines = {line["event"]: line for line in told(tmp_path, exited)}

    exit_line = lines["trainer_exited"]
    assert (exit_line["run"], exit_line["incarnation"], exit_line["signal"]) == ("r-1", 1, 9)
    assert "log_tail" not in exit_line
    decision = lines["decision_made"]
    assert (decision["class"], decision["action"]) == ("crash", "restart")
    assert decision["log_level"] == "warning"
    assert decision["reason"]
    assert decision["message"]
    changed = lines["run_state_changed"]
    assert (changed["from"], changed["to"]) == ("running", "recovering")


def test_a_fault_is_told_with_its_step_and_batch(tmp_path: Path) -> None:
    fault = Fault(
        fault_class=FaultClass.DATA_ERROR,
        message="no such file",
        step=5,
        batch=6,
        delegated=Action.SKIP,
    )
    raised = FaultRaised(run="r-1", incarnation=1, fault=fault)
    lines = {line["event"]: line for line in told(tmp_path, raised)}

    decision = lines["decision_made"]
    assert (decision["step"], decision["batch"], decision["message"]) == (5, 6, "no such file")


def test_what_happens_all_the_time_and_what_is_ignored_is_for_debugging(tmp_path: Path) -> None:
    entered = PhaseEntered(run="r-1", incarnation=1, phase=Phase.SAVE, step=3)
    late = PhaseEntered(run="r-1", incarnation=9, phase=Phase.SAVE, step=3)
    lines = told(tmp_path, entered, late, StopRequested(run="r-1"))
    levels = [(line["event"], line["log_level"]) for line in lines]

    assert levels[0] == ("phase_entered", "debug")
    assert lines[0]["phase"] == "save"
    assert ("event_ignored", "debug") in levels
    assert ("stop_requested", "info") in levels


def test_no_record_has_a_field_that_a_log_line_has_itself() -> None:
    """One that had would end the runtime that tells of it."""
    payloads = event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields
    for payload in payloads:
        fields = set(payload.message_type.fields_by_name)
        assert not fields & {"event", "level", "timestamp", "self"}, payload.name
