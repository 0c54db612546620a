"""Incidents on the launcher's disk: whole or absent, once, bounded, and no trainer's business."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from fakes.launcher_process import launcher
from fakes.trainer_scripts import FAILS, SLEEPER
from trainerd.actors.launcher import incidents
from trainerd.actors.launcher.incidents import KEEP, NoIncident
from trainerd.actors.launcher.runs import RunFiles
from trainerd.v1 import fault_pb2, incident_pb2, launcher_pb2


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    made = RunFiles.of(tmp_path, "r-1")
    made.make()
    made.log(2).write_text("x" * 100_000 + "last words\n")
    return made


def incident(number: int = 1, **fields: object) -> incident_pb2.Incident:
    fault = fault_pb2.Fault(message="no progress for 9 s – at all", step=7)
    return incident_pb2.Incident(
        **{"number": number, "run": "r-1", "incarnation": 2, "fault": fault, **fields}
    )


def evidence(stacks: str = "Thread 1") -> incident_pb2.IncidentEvidence:
    steps = [incident_pb2.StepSample(step=n, loss=float("nan"), duration_s=0.5) for n in range(64)]
    memory = incident_pb2.MemoryUse(resident_bytes=2**40)
    return incident_pb2.IncidentEvidence(last_steps=steps, memory=memory, stacks=stacks)


def names(files: RunFiles) -> list[str]:
    return sorted(path.name for path in files.incidents.iterdir())


def test_what_is_written_is_read_with_the_end_of_the_log(files: RunFiles) -> None:
    incidents.write(files, incident(), evidence())
    assert names(files) == ["1"]
    assert sorted(path.name for path in (files.incidents / "1").iterdir()) == [
        "incident.json", "last_steps.json", "log_tail.txt", "memory.json", "stacks.txt",
    ]  # fmt: skip
    for number in (0, 1):
        found, kept, place = incidents.read(files, number)
        assert (found, place) == (incident(), files.incidents / "1")
        assert kept.memory == evidence().memory
        assert [step.step for step in kept.last_steps] == list(range(64))
        assert kept.stacks == "Thread 1"
        assert len(kept.log_tail) == 64 * 1024
        assert kept.log_tail.endswith("last words\n")
    assert incidents.read_all(files) == [incident()]


def test_without_stacks_and_log_there_are_no_such_files(files: RunFiles) -> None:
    incidents.write(files, incident(incarnation=9), evidence(stacks=""))
    assert not (files.incidents / "1" / "stacks.txt").exists()
    assert not (files.incidents / "1" / "log_tail.txt").exists()
    _, kept, _ = incidents.read(files, 1)
    assert (kept.stacks, kept.log_tail) == ("", "")


def test_an_incident_that_is_kept_stays_as_it_is(files: RunFiles) -> None:
    incidents.write(files, incident(), evidence())
    incidents.write(files, incident(step=99), evidence(stacks="other"))
    assert incidents.read(files, 1)[0] == incident()
    assert names(files) == ["1"]


def test_the_newest_are_kept(files: RunFiles) -> None:
    for number in range(1, KEEP + 4):
        incidents.write(files, incident(number), evidence())
    assert incidents.numbers(files) == list(range(4, KEEP + 4))
    with pytest.raises(NoIncident, match=f"there is no incident 3; kept are 4 to {KEEP + 3}"):
        incidents.read(files, 3)


def test_one_that_is_too_big_is_refused(files: RunFiles) -> None:
    with pytest.raises(ValueError, match="an incident must have at most 1048576 bytes, got "):
        incidents.write(files, incident(), evidence(stacks="x" * 2**20))
    assert not files.incidents.exists()


def test_a_disk_that_refuses_leaves_nothing_behind(
    files: RunFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path.name)
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        incidents.write(files, incident(), evidence())
    assert names(files) == []


def test_what_a_crash_left_half_written_is_not_an_incident(files: RunFiles) -> None:
    (files.incidents / ".1.new").mkdir(parents=True)
    assert incidents.read_all(files) == []
    incidents.write(files, incident(), evidence())
    assert names(files) == ["1"]


def test_a_damaged_one_does_not_hide_the_others(files: RunFiles) -> None:
    incidents.write(files, incident(1), evidence())
    incidents.write(files, incident(2), evidence())
    (files.incidents / "1" / "incident.json").write_text("{")
    assert [each.number for each in incidents.read_all(files)] == [2]
    with pytest.raises(NoIncident, match=r"incident\.json cannot be read"):
        incidents.read(files, 1)


def test_a_run_without_any_has_none(files: RunFiles) -> None:
    assert incidents.read_all(files) == []
    with pytest.raises(NoIncident, match="the run has no incident"):
        incidents.read(files, 0)


def test_a_removed_run_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        incidents.write(RunFiles.of(tmp_path, "r-1"), incident(), evidence())
    assert not (tmp_path / "runs").exists()


def test_the_launcher_keeps_and_tells_them() -> None:
    with launcher(FAILS) as host:
        watch = host.watch()
        host.start_trainer()
        watch.wait_exits(1)
        request = launcher_pb2.WriteIncidentRequest(
            incident=incident(incarnation=1), evidence=evidence()
        )
        host.stub.WriteIncident(request, timeout=10.0)
        asked = launcher_pb2.ReadIncidentRequest(run="r-1")
        told = host.stub.ReadIncident(asked, timeout=10.0)
        assert told.evidence.log_tail.splitlines()[-1] == "line 99"
        assert told.directory == str(host.state / "runs" / "r-1" / "incidents" / "1")
        listed = host.stub.ReadIncidents(launcher_pb2.ReadIncidentsRequest(run="r-1"), timeout=10.0)
        assert [each.number for each in listed.incidents] == [1]
        with pytest.raises(grpc.RpcError) as caught:
            host.stub.ReadIncident(
                launcher_pb2.ReadIncidentRequest(run="r-1", number=4), timeout=10.0
            )
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        host.stub.RemoveRun(launcher_pb2.RemoveRunRequest(run="r-1"), timeout=10.0)
        assert not (host.state / "runs" / "r-1").exists()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"number": 0}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"run": "../r"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"run": "gone"}, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["number", "run", "gone"],
)
def test_what_cannot_be_kept_is_refused_and_the_trainer_lives(
    fields: dict[str, object], code: grpc.StatusCode
) -> None:
    with launcher(SLEEPER) as host:
        host.start_trainer()
        request = launcher_pb2.WriteIncidentRequest(
            incident=incident(**fields), evidence=evidence()
        )
        with pytest.raises(grpc.RpcError) as caught:
            host.stub.WriteIncident(request, timeout=10.0)
        assert caught.value.code() is code
        assert host.watch().hello.trainers
