"""Pins: an incident's checkpoint stays, whatever becomes of the run's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from trainerd.actors import checkpoint_files
from trainerd.actors.launcher import incidents, pins
from trainerd.actors.launcher.incidents import KEEP, KEEP_PINS
from trainerd.actors.launcher.runs import RunFiles
from trainerd.v1 import fault_pb2, incident_pb2


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    made = RunFiles.of(tmp_path, "r-1")
    made.make()
    return made


def checkpoint(directory: Path, step: int) -> Path:
    path = directory / str(step)
    for name in ("_CHECKPOINT_METADATA", "state/_METADATA", "state/d/data", "meta/metadata"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"{name} of {step}")
    return path


def write(files: RunFiles, number: int, path: Path | None, batch: int = -1) -> str:
    """Write an incident; return the checkpoint it names."""
    incident = incident_pb2.Incident(
        number=number,
        run="r-1",
        checkpoint=str(path or ""),
        fault=fault_pb2.Fault(batch=batch),
    )
    incidents.write(files, incident, incident_pb2.IncidentEvidence())
    return incidents.read(files, number)[0].checkpoint


def test_a_pin_outlives_its_checkpoint_and_takes_no_space_before(files: RunFiles) -> None:
    path = checkpoint(files.checkpoints, 40)
    pinned = Path(write(files, 1, path))
    assert os.path.samefile(pinned / "state" / "d" / "data", path / "state" / "d" / "data")
    shutil.rmtree(path)
    assert checkpoint_files.is_committed(pinned)
    assert (pinned / "meta" / "metadata").read_text() == "meta/metadata of 40"


def test_a_pin_is_no_checkpoint_of_the_run(files: RunFiles) -> None:
    pinned = Path(write(files, 1, checkpoint(files.checkpoints, 40)))
    assert [found.step for found in checkpoint_files.committed(files.checkpoints)] == [40]
    checkpoint_files.remove(checkpoint_files.committed(files.checkpoints)[0])
    checkpoint_files.remove_debris(files.checkpoints)
    assert pinned.is_dir()
    # The same step again, by another history.
    again = checkpoint(files.checkpoints, 40)
    (again / "state" / "d" / "data").write_text("other")
    second = Path(write(files, 2, again))
    assert (pinned / "state" / "d" / "data").read_text() == "state/d/data of 40"
    assert (second / "state" / "d" / "data").read_text() == "other"


@pytest.mark.parametrize("path", ["{}/gone/40", "{}/40", "40", "{}", ""])
def test_where_there_is_no_checkpoint_the_incident_names_none(
    files: RunFiles, tmp_path: Path, path: str
) -> None:
    place = path.format(tmp_path)
    assert write(files, 1, Path(place) if place else None) == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]


def test_a_checkpoint_that_is_removed_meanwhile_is_not_pinned(
    files: RunFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(files.checkpoints, 40)
    link = os.link

    def late(source: str, target: str) -> None:
        if path.exists():
            checkpoint_files.remove(checkpoint_files.Checkpoint(step=40, path=path))
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert write(files, 1, path) == ""
    assert list(files.checkpoints.iterdir()) == []


def test_without_hard_links_the_incident_is_kept_all_the_same(
    files: RunFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    assert write(files, 1, checkpoint(files.checkpoints, 40)) == ""
    assert [path.name for path in files.checkpoints.iterdir()] == ["40"]


def test_the_newest_incidents_have_the_pins_in_whatever_order_they_come(files: RunFiles) -> None:
    for number in (5, 1, 3, 4, 2):
        write(files, number, checkpoint(files.checkpoints, number))
    named = {i.number: i.checkpoint for i in incidents.read_all(files)}
    assert [number for number, path in named.items() if path] == [3, 4, 5]
    assert len(list((files.checkpoints / "pins").iterdir())) == KEEP_PINS
    assert all(checkpoint_files.is_committed(Path(path)) for path in named.values() if path)


def test_the_pin_of_an_incident_that_goes_goes_too(files: RunFiles) -> None:
    write(files, 1, checkpoint(files.checkpoints, 1))
    for number in range(2, KEEP + 2):
        write(files, number, None)
    assert incidents.numbers(files)[0] == 2
    assert not (files.checkpoints / "pins").exists()


def test_the_pins_of_a_removed_run_lie_elsewhere_and_go(files: RunFiles, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "r-1"
    write(files, 1, checkpoint(elsewhere, 7))
    incidents.remove_pins(files)
    assert [path.name for path in elsewhere.iterdir()] == ["7"]
    assert incidents.read(files, 1)[0].checkpoint == ""


def test_an_incident_that_cannot_be_written_pins_nothing(
    files: RunFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    path = checkpoint(files.checkpoints, 7)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write(files, 1, path)
    assert not (files.checkpoints / "pins").exists()


def test_unpinning_removes_nothing_but_pins(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 7)
    pins.unpin(path)
    assert checkpoint_files.is_committed(path)


@pytest.mark.parametrize(("size", "kept"), [(1024, True), (2**20 + 1, False)])
def test_the_batch_is_kept_where_it_is_small(files: RunFiles, size: int, kept: bool) -> None:
    batch = files.batch(31)
    batch.parent.mkdir()
    batch.write_bytes(b"x" * size)
    write(files, 1, None, batch=31)
    write(files, 2, None, batch=32)
    assert (files.incidents / "1" / "batch.npz").exists() is kept
    assert not (files.incidents / "2" / "batch.npz").exists()
    assert not batch.exists(), "the incident has it, or it is too large for one"
