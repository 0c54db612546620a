"""A decision that changes a run's course is an incident; keeping it is nobody's condition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.launcher import FakeLauncher
from trainerd.daemon.incidents import MAX_TEXT_BYTES, request_of
from trainerd.daemon.supervision.commands import WriteIncident
from trainerd.daemon.supervision.faults import Decision, Fault
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.state import State
from trainerd.daemon.telemetry import LAST_STEPS, Telemetry
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, fault_pb2, trainer_pb2
from unit.daemon.house import house, play, short_directory
from unit.daemon.statuses import refused


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_a_crash_is_kept_with_what_was_known_of_the_trainer(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher(stacks="Thread 1")
        async with house(root, launcher) as at:
            run = await at.submit()
            trainer = await at.trainer(
                run, phase=fault_pb2.PHASE_STEP, step=3, versions={"jax": "0.10"}
            )
            await trainer.telemetry(4, loss=2.5)
            beat = trainer_pb2.Heartbeat(resident_bytes=1000, device_bytes=10)
            await trainer.say(heartbeat=beat)
            await trainer.fault("non_finite_step", step=4, delegated="ACTION_SKIP")
            await trainer.until_acknowledged()
            launcher.exit(run, 1, exit_code=-1, signal=9)
            await launcher.until(lambda fake: fake.incidents)
            listed = await at.control.ListIncidents(control_pb2.ListIncidentsRequest(run=run[:4]))
            (incident,) = listed.incidents
            got = await at.control.GetIncident(control_pb2.GetIncidentRequest(run=run, number=1))
            made = [each for each in await at.events(run) if each.HasField("decision_made")]

        assert [each.decision_made.incident for each in made] == [0, 1]
        assert (incident.number, incident.run, incident.incarnation) == (1, run, 1)
        assert incident.fault == made[1].decision_made.fault
        assert incident.decision == made[1].decision_made.decision
        assert (incident.step, incident.durable_step) == (4, -1)
        assert dict(incident.versions) == {"jax": "0.10"}
        assert incident.time.seconds == pytest.approx(made[1].time.seconds, abs=5)
        assert (got.incident, got.directory) == (incident, "/i")
        # The exit of a crash brings no stacks that would say where it hung.
        assert got.evidence.stacks == ""
        assert [step.step for step in got.evidence.last_steps] == [4]
        assert got.evidence.last_steps[0].loss == 2.5
        assert (got.evidence.memory.resident_bytes, got.evidence.memory.device_bytes) == (1000, 10)

    play(scene)


def test_a_replay_writes_none_again_and_the_numbers_go_on(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            await at.training(run)
            launcher.exit(run, 1, exit_code=3)
            await at.training(run, 2)
            await launcher.until(lambda fake: fake.incidents)
        async with house(root, launcher) as at:
            launcher.exit(run, 2, exit_code=3)
            await launcher.until(lambda fake: len(fake.incidents) == 2)

        assert [each.incident.number for each in launcher.incidents] == [1, 2]

    play(scene)


def test_a_full_disk_does_not_hurt_the_run(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher(refuse_incidents=grpc.StatusCode.RESOURCE_EXHAUSTED)
        async with house(root, launcher) as at:
            run = await at.submit()
            await at.training(run)
            launcher.exit(run, 1, exit_code=3)
            trainer = await at.training(run, 2)
            await trainer.finish("completed", 100)
            await at.until(run, lambda now: now.HasField("ended_at"))
        assert len(launcher.incidents) == 1

    play(scene)


def test_an_incident_that_there_is_not_is_told(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            call = at.control.GetIncident(control_pb2.GetIncidentRequest(run=run, number=9))
            await refused(call, grpc.StatusCode.NOT_FOUND, "INCIDENT_UNREADABLE")
            await at.launcher.stop_serving()
            await at.until_unlinked()
            call = at.control.ListIncidents(control_pb2.ListIncidentsRequest(run=run))
            await refused(call, grpc.StatusCode.UNAVAILABLE, "LAUNCHER_UNLINKED")

    play(scene)


def test_an_incident_is_bounded() -> None:
    telemetry = Telemetry()
    for step in range(200):
        report = trainer_pb2.StepReport(step=step, durations_s=[0.1, 0.3, 0.2])
        telemetry.of("r").step_report(report, float(step))
    fault = Fault(fault_class=FaultClass.HANG, message="m" * 99_999, detail="ü" * 99_999 + "end")
    command = WriteIncident(
        run="r",
        incarnation=1,
        number=1,
        fault=fault,
        decision=Decision(action=Action.FAIL, scope="run", reason="so"),
        stacks="s",
    )
    request = request_of(command, State(), Views(telemetry), telemetry, wall=1.5)

    assert len(request.incident.fault.detail.encode()) <= MAX_TEXT_BYTES
    assert request.incident.fault.detail.endswith("end")
    assert len(request.incident.fault.message) == MAX_TEXT_BYTES
    assert len(request.evidence.last_steps) == LAST_STEPS
    assert request.evidence.last_steps[-1].duration_s == 0.3
    assert (request.evidence.stacks, request.incident.durable_step) == ("s", -1)
    assert request.incident.time.nanos == 500_000_000


def test_an_incident_says_what_a_replay_needs(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit(microbatch=2)
            trainer = await at.training(run)
            await trainer.report(slots_fixed={"slots": 4})
            await trainer.save(10)
            # A state in memory is gone with the host: nothing that a replay could begin with.
            await trainer.report(state_restored={"step": 11, "source": "/m/a.snapshot"})
            skipped = {"delegated": "ACTION_SKIP", "slots": [1]}
            await trainer.fault("data_error", step=11, batch=11, **skipped)
            await trainer.fault(
                "step_exception", step=12, batch=13, awaits_decision=True, phase="PHASE_STEP"
            )
            await launcher.until(lambda fake: fake.incidents)
            (incident,) = (each.incident for each in launcher.incidents)
            await trainer.until_acknowledged()
            launcher.exit(run, 1, exit_code=1)
            await launcher.until(lambda fake: (run, 2) in fake.live)
            assignment = launcher.assignment(run, 2)

        assert (incident.checkpoint, incident.durable_step) == ("/c/10", 10)
        assert (incident.slots, incident.slot_parts) == (4, 0)
        (entry,) = incident.ledger
        assert (entry.first_batch, entry.last_batch, entry.decision) == (11, 11, "skip")
        assert list(assignment.ledger) == [entry]

    play(scene)


def test_an_incident_that_an_earlier_daemon_did_not_write_is_written_later(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher) as at:
            run = await at.submit()
            await at.training(run)
            launcher.exit(run, 1, exit_code=3)
            await at.training(run, 2)
            await launcher.until(lambda fake: fake.incidents)
        # As if it had died between the journal and the launcher.
        (lost,) = launcher.incidents
        launcher.incidents.clear()
        async with house(root, launcher) as at:
            await launcher.until(lambda fake: fake.incidents)
            made = [each for each in await at.events(run) if each.HasField("decision_made")]
        (found,) = launcher.incidents

        assert (found.incident.number, found.incident.incarnation) == (1, 1)
        assert found.incident.fault == lost.incident.fault
        assert found.incident.decision == lost.incident.decision
        assert found.incident.time == made[0].time

    play(scene)
