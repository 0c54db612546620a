"""ReplayRunIncident: what the launcher is asked, what the client is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.launcher import FakeLauncher
from trainerd.actors.launcher.refusals import Refused
from trainerd.daemon.replaying import injection_of
from trainerd.daemon.supervision.drills import Armed, InjectedFault, Injection
from trainerd.daemon.supervision.policy import Policy
from trainerd.daemon.supervision.state import Run
from trainerd.v1 import control_pb2, fault_pb2, launcher_pb2
from unit.daemon.house import house, play, short_directory
from unit.daemon.statuses import refused


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_an_incident_is_replayed_under_the_policy_as_it_is_now(root: Path) -> None:
    showed = launcher_pb2.ReplayIncidentResponse(
        number=1, happened=True, source="/c/10", first_step=10, last_step=12, batch=12
    )
    showed.fault.message = "again"

    async def scene() -> None:
        launcher = FakeLauncher(replay=showed)
        async with house(root, launcher) as at:
            run = await at.submit()
            await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=3)
            launcher.exit(run, 1, exit_code=-1, signal=9)
            await launcher.until(lambda fake: fake.incidents)
            policy = fault_pb2.Policy(max_cycles_without_progress=7)
            await at.control.SetPolicy(control_pb2.SetPolicyRequest(run=run, policy=policy))
            asked = control_pb2.ReplayRunIncidentRequest(run=run[:4], number=0, cpu=True)
            told = await at.control.ReplayRunIncident(asked)
        (request,) = launcher.replayed
        # The newest one, named once and for all.
        assert (request.run, request.number, request.cpu) == (run, 1, True)
        assert (request.spec.entry, request.spec.train.steps) == ("m:f", 100)
        assert request.spec.policy.max_cycles_without_progress == 7
        assert (told.happened, told.source, told.fault.message) == (True, "/c/10", "again")
        assert (told.first_step, told.last_step, told.incident.number) == (10, 12, 1)

    play(scene)


def test_what_the_launcher_refuses_the_client_hears_with_its_reason(root: Path) -> None:
    busy = Refused(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="DEVICES_BUSY",
        message="a trainer holds the devices of this host",
        suggestion="replay on the CPU",
    )

    async def scene() -> None:
        launcher = FakeLauncher(refuse_replay=busy)
        async with house(root, launcher) as at:
            run = await at.submit()
            asked = control_pb2.ReplayRunIncidentRequest(run=run)
            missing = at.control.ReplayRunIncident(asked)
            await refused(missing, grpc.StatusCode.NOT_FOUND, "NOT_REPLAYED")
            await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=3)
            launcher.exit(run, 1, exit_code=-1, signal=9)
            await launcher.until(lambda fake: fake.incidents)
            error = await refused(
                at.control.ReplayRunIncident(asked),
                grpc.StatusCode.FAILED_PRECONDITION,
                "DEVICES_BUSY",
            )
        assert error.details() == str(busy)

    play(scene)


@pytest.mark.parametrize(
    ("fault_class", "batch", "number"),
    [
        ("NON_FINITE_MICROBATCH", 9, 2),
        ("NON_FINITE_STEP", 9, 2),
        ("NON_FINITE_STEP", 8, 0),
        ("LOSS_SPIKE", 9, 0),
        ("DEVICE_OOM", 4, 3),
        ("STEP_EXCEPTION", 4, 0),
    ],
)
def test_a_fault_that_was_made_to_happen_is_known_by_class_and_batch(
    fault_class: str, batch: int, number: int
) -> None:
    kinds = (InjectedFault.SIGKILL, InjectedFault.NAN, InjectedFault.OUT_OF_MEMORY)
    batches: tuple[tuple[int, ...], ...] = ((4, 9), (7, 9), (4,))
    injections = tuple(
        Armed(number=place, injection=Injection(fault=kind, step=1), batches=happened)
        for place, (kind, happened) in enumerate(zip(kinds, batches, strict=True), start=1)
    )
    run = Run(id="r", name="r", order=1, policy=Policy(), injections=injections)
    fault = fault_pb2.Fault(**{"class": f"FAULT_CLASS_{fault_class}", "batch": batch})
    assert injection_of(run, fault) == number
