"""F14: a trainer that the host asks to go saves, ends, and goes on later as if nothing had been."""

from __future__ import annotations

import os
import signal

import pytest

from e2e import oracle
from e2e.host import Host
from trainerd.v1 import event_pb2, run_pb2

pytestmark = pytest.mark.e2e


def test_a_trainer_that_is_asked_to_go_saves_and_goes_on_later(host: Host) -> None:
    spec = host.spec("asked", steps=300, every_steps=1000, args={"pace_s": 0.0005})
    run = host.submit(spec)
    before = host.until(run, lambda now: now.step >= 40)
    os.kill(before.pid, signal.SIGTERM)
    done = host.completed(run)

    assert (done.incarnation, done.restarts) == (2, 0)
    assert done.result.state_digest == oracle.digest(spec, [])
    saved, *_ = host.events(run, "checkpoint_saved")
    assert saved.checkpoint_saved.step >= 40
    finished, _ = host.events(run, "trainer_finished")
    assert finished.trainer_finished.reason == event_pb2.FINISH_REASON_PREEMPTED
    _, again = host.events(run, "state_restored")
    assert again.state_restored.step == saved.checkpoint_saved.step
    states = [event.run_state_changed.to for event in host.events(run, "run_state_changed")]
    assert states.count(run_pb2.RUN_STATE_QUEUED) == 2
    # It is told and counted, and costs the run nothing of what its faults may cost.
    assert host.decided(run) == [("preemption", "restart", 0)]
    assert host.faults(run) == {("preemption", "restart"): 1}
    assert host.metric("restarts_total", run=run, class_="preemption") == 1
    assert host.metric("restarts_total", run=run, class_="crash") == 0
