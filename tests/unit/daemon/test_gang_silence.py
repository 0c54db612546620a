"""A gang that stands still: which process is named, and how long that may last."""

from __future__ import annotations

import pytest

from trainerd.daemon.deadlines import FLOORS_S, HEARD_S, MUTE_S, Deadlines, Silence
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.telemetry import Telemetry
from trainerd.v1 import trainer_pb2
from unit.daemon.gang_scene import Scene

STEP_S = FLOORS_S[Phase.STEP]


class Gang:
    """Two processes; both have made a step at 0, and say something when they are heard."""

    def __init__(self, phase: Phase = Phase.STEP) -> None:
        scene = Scene(phase=phase)
        self.run = scene.state.runs["r"]
        self.telemetry: Telemetry = scene.telemetry
        self.deadlines = Deadlines(self.telemetry)
        for host in ("a", "b"):
            self.telemetry.of("r", host).moved(trainer_pb2.StepReport(step=5), 0.0)

    def silence(self, now: float, **heard_at: float) -> Silence:
        for host, at in heard_at.items():
            self.telemetry.of("r", host).heard_at = at
        found = self.deadlines.silence(self.run, now=now)
        assert found is not None
        return found


def test_one_that_says_nothing_at_all_is_not_waited_for_as_long_as_a_slow_step() -> None:
    now = MUTE_S + 0.1
    found = Gang().silence(now, a=now - 1.0)
    assert (found.host, found.deadline_s, found.waited_s) == ("b", MUTE_S, now)


@pytest.mark.parametrize("now", [MUTE_S - 0.1, MUTE_S + 0.1])
def test_where_all_say_that_they_live_a_step_may_be_slow(now: float) -> None:
    assert Gang().silence(now, a=now - 1.0, b=now - 1.0).deadline_s == STEP_S


def test_where_nobody_is_heard_nobody_is_mute() -> None:
    now = MUTE_S + HEARD_S + 1.0
    assert Gang().silence(now, a=now - HEARD_S - 0.1).deadline_s == STEP_S


def test_while_the_gang_moves_nobody_is_mute() -> None:
    gang, now = Gang(), 100.0
    gang.telemetry.of("r", "a").moved(trainer_pb2.StepReport(step=9), now - 1.0)
    assert gang.silence(now).deadline_s == STEP_S


def test_a_process_that_begins_may_be_mute_for_long() -> None:
    now = MUTE_S + 0.1
    assert Gang(Phase.INIT).silence(now, a=now - 1.0).deadline_s == FLOORS_S[Phase.INIT]
