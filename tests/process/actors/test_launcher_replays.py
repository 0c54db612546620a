"""Replays through the launcher: a real process trains again, and is in nobody's way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from fakes.launcher_process import LauncherProcess, launcher, process_is_alive, wait_until
from fakes.trainer_scripts import SLEEPER
from trainerd.actors.launcher.refusals import DOMAIN
from trainerd.v1 import fault_pb2, incident_pb2, launcher_pb2, run_pb2

TESTS = Path(__file__).resolve().parents[2]
REPLAY_S = 60.0


def tiny(nan_index: int = -1) -> run_pb2.RunSpec:
    spec = run_pb2.RunSpec(name="r", entry="tiny:build")
    spec.args["nan_index"].int_value = nan_index
    spec.trainer.path.append(str(TESTS / "e2e" / "programs"))
    spec.train.steps, spec.train.global_batch, spec.train.microbatch = 64, 16, 4
    spec.policy.non_finite_microbatch.limit = 0
    return spec


def toy(function: str) -> run_pb2.RunSpec:
    spec = run_pb2.RunSpec(name="r", entry=f"toy_program:{function}")
    spec.trainer.path.append(str(TESTS / "fakes"))
    spec.train.steps, spec.train.global_batch, spec.train.microbatch = 5, 8, 4
    return spec


def keep(host: LauncherProcess, number: int, fault_class: str, batch: int) -> None:
    """Let the launcher keep an incident of a run that has trained here."""
    (host.state / "runs" / "r-1").mkdir(mode=0o700, parents=True, exist_ok=True)
    fault = fault_pb2.Fault(**{"class": f"FAULT_CLASS_{fault_class}", "batch": batch})
    incident = incident_pb2.Incident(number=number, run="r-1", fault=fault, slots=4)
    host.stub.WriteIncident(launcher_pb2.WriteIncidentRequest(incident=incident), timeout=10.0)


def replay(
    host: LauncherProcess, spec: run_pb2.RunSpec, number: int = 1, *, cpu: bool = False
) -> launcher_pb2.ReplayIncidentResponse:
    request = launcher_pb2.ReplayIncidentRequest(run="r-1", number=number, spec=spec, cpu=cpu)
    return host.stub.ReplayIncident(request, timeout=REPLAY_S)


@contextmanager
def refused(reason: str, code: grpc.StatusCode) -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    trailing = dict(caught.value.trailing_metadata())
    assert caught.value.code() is code, caught.value.details()
    assert reason.encode() in trailing["grpc-status-details-bin"]
    assert DOMAIN.encode() in trailing["grpc-status-details-bin"]


def replayers(host: LauncherProcess) -> list[int]:
    """Replays that run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            ours = b"trainerd.actors.replayer" in command and str(host.state).encode() in command
            if ours and process_is_alive(int(entry.name)):
                found.append(int(entry.name))
    return found


@contextmanager
def one_that_never_ends(host: LauncherProcess) -> Iterator[list[grpc.RpcError]]:
    """A replay in the background; what it was refused with is there afterwards."""
    keep(host, 1, "NON_FINITE_STEP", 3)
    errors: list[grpc.RpcError] = []

    def ask() -> None:
        try:
            replay(host, toy("never_returns"))
        except grpc.RpcError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        wait_until(lambda: replayers(host), "a replay runs")
        yield errors
    finally:
        host.process.terminate()  # ends what the test did not
        thread.join(REPLAY_S)


def test_a_nan_happens_again_at_its_batch_and_nowhere_else() -> None:
    with launcher(SLEEPER) as host:
        # It ends with the first fault that it would ask about: which batch holds the example.
        keep(host, 1, "LOSS_SPIKE", 31)
        found = replay(host, tiny(nan_index=300))
        assert not found.happened
        assert (found.source, found.first_step, found.batch) == ("init", 0, 31)
        batch = found.fault.batch
        assert 0 <= batch <= 31
        keep(host, 2, "NON_FINITE_MICROBATCH", batch)
        # On the CPU a trainer may live beside it.
        host.start_trainer("r-2")
        before = sorted(os.listdir(host.state))
        showed = replay(host, tiny(nan_index=300), number=0, cpu=True)
        assert (showed.number, showed.happened, showed.batch) == (2, True, batch)
        assert getattr(showed.fault, "class") == fault_pb2.FAULT_CLASS_NON_FINITE_MICROBATCH
        assert showed.fault.batch == batch
        healed = replay(host, tiny(), 2, cpu=True)
        assert not healed.happened
        assert not healed.HasField("fault")
        assert healed.last_step >= batch
        assert sorted(os.listdir(host.state)) == before
        assert sorted(os.listdir(host.state / "runs" / "r-1")) == ["incidents"]
        with refused("DEVICES_BUSY", grpc.StatusCode.FAILED_PRECONDITION):
            replay(host, tiny())


@pytest.mark.parametrize(
    ("fault_class", "batch"), [("CRASH", -1), ("HANG", 7), ("STEP_EXCEPTION", -1)]
)
def test_a_fault_whose_batch_is_not_known_is_refused(fault_class: str, batch: int) -> None:
    with launcher(SLEEPER) as host:
        keep(host, 1, fault_class, batch)
        with refused("NOT_REPLAYABLE", grpc.StatusCode.FAILED_PRECONDITION):
            replay(host, tiny())
        with refused("NO_INCIDENT", grpc.StatusCode.NOT_FOUND):
            replay(host, tiny(), 2)


def test_a_replay_whose_process_dies_or_cannot_run_says_how() -> None:
    with launcher(SLEEPER) as host:
        keep(host, 1, "NON_FINITE_STEP", 3)
        with pytest.raises(grpc.RpcError) as caught:
            replay(host, toy("dies"))
        assert "ended with exit code 9" in caught.value.details()
        spec = toy("build")
        spec.trainer.python = "/nowhere/python"
        with refused("INVALID_SPECIFICATION", grpc.StatusCode.INVALID_ARGUMENT):
            replay(host, spec)
        raised = replay(host, toy("raises"))
        assert not raised.happened
        assert "no such width" in raised.fault.message


def test_a_replay_has_a_deadline() -> None:
    with launcher(SLEEPER, "--replay-timeout-s", "2") as host:
        keep(host, 1, "NON_FINITE_STEP", 3)
        with refused("REPLAY_TIMED_OUT", grpc.StatusCode.DEADLINE_EXCEEDED):
            replay(host, toy("never_returns"))
        wait_until(lambda: not replayers(host), "the replay is gone")


def test_a_trainer_that_needs_the_devices_ends_a_replay_on_them() -> None:
    with launcher(SLEEPER) as host, one_that_never_ends(host) as errors:
        with refused("REPLAY_RUNNING", grpc.StatusCode.FAILED_PRECONDITION):
            replay(host, tiny())
        host.start_trainer("r-2")
        wait_until(lambda: errors, "the replay is ended")
        assert errors[0].code() is grpc.StatusCode.ABORTED
        assert "a trainer needs the devices" in errors[0].details()
        host.wait_log("ready", "r-2")


def test_a_replay_ends_with_its_launcher() -> None:
    with launcher(SLEEPER) as host, one_that_never_ends(host):
        (pid,) = replayers(host)
        host.sigkill()
        wait_until(lambda: not process_is_alive(pid), "the replay is gone")


def test_a_replay_ends_when_nobody_waits_for_it() -> None:
    with launcher(SLEEPER) as host:
        keep(host, 1, "NON_FINITE_STEP", 3)
        request = launcher_pb2.ReplayIncidentRequest(run="r-1", number=1, spec=toy("never_returns"))
        call = host.stub.ReplayIncident.future(request, timeout=REPLAY_S)
        wait_until(lambda: replayers(host), "a replay runs")
        call.cancel()
        wait_until(lambda: not replayers(host), "the replay is ended")
        host.start_trainer("r-2")
