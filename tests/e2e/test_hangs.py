"""A trainer that hangs is found from outside, killed and replaced; the result is the same."""

from __future__ import annotations

import signal

import pytest

from e2e.host import Host
from trainerd.v1 import fault_pb2, run_pb2

pytestmark = pytest.mark.e2e

STEPS = 300
HANGS_AFTER = 16 * 150


def spec(host: Host, name: str, **args: object) -> run_pb2.RunSpec:
    made = host.spec(name, program="hanging", steps=STEPS, args=args)
    made.policy.hang_floor_s, made.policy.hang_factor = 5.0, 6.0
    return made


@pytest.fixture(scope="module", name="expected")
def _expected(shared: Host) -> str:
    """The digest of an undisturbed run."""
    run = shared.completed(shared.submit(spec(shared, "undisturbed")))
    assert run.restarts == 0
    return run.result.state_digest


@pytest.mark.parametrize("how", ["python", "gil", "stopped"])
def test_a_hung_trainer_is_killed_and_the_run_ends_as_if_undisturbed(
    shared: Host, expected: str, how: str
) -> None:
    marker = shared.folder / f"hung-{how}"
    run = shared.submit(spec(shared, how, how=how, after=HANGS_AFTER, marker=str(marker)))
    done = shared.completed(run)
    assert done.result.state_digest == expected
    assert (done.restarts, done.incarnation) == (1, 2)
    (expired,) = shared.events(run, "deadline_expired")
    assert expired.deadline_expired.phase == fault_pb2.PHASE_STEP
    assert expired.deadline_expired.waited_s > expired.deadline_expired.deadline_s >= 5.0
    died, *_ = shared.events(run, "trainer_exited")
    assert died.trainer_exited.signal == signal.SIGKILL
    assert died.trainer_exited.killed_by_launcher
    (made,) = shared.events(run, "decision_made")
    assert getattr(made.decision_made.fault, "class") == fault_pb2.FAULT_CLASS_HANG
    assert made.decision_made.decision.action == fault_pb2.ACTION_RESTART
    with shared.client() as client:
        story = client.explain_run(run).story
        (listed,) = client.list_incidents(run).incidents
        kept = client.get_incident(run)
    assert [event.WhichOneof("payload") for event in story][:3] == [
        *("deadline_expired", "trainer_exited", "decision_made"),
    ]
    assert kept.incident == listed
    assert (listed.number, listed.incarnation, listed.fault) == (1, 1, made.decision_made.fault)
    assert listed.versions["jax"]
    assert kept.evidence.last_steps[-1].step <= listed.step < STEPS
    assert kept.evidence.memory.resident_bytes > 0
    assert "threads, as the kernel sees them" in kept.evidence.stacks
    if how != "stopped":
        assert "in hang" in kept.evidence.stacks
