"""Only the newest incarnation of a run on several hosts makes checkpoints durable."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from fakes.stored_checkpoints import stored
from trainerd.actors import checkpoint_manifest, fence
from trainerd.actors.checkpoint_claim import claimed
from trainerd.actors.checkpoint_files import durable
from trainerd.actors.checkpoint_finding import find
from trainerd.actors.checkpoint_retention import Retention
from trainerd.actors.checkpoint_shelf import Shelf
from trainerd.actors.launcher.fencing import raise_fence
from trainerd.actors.launcher.runs import RunFiles
from trainerd.v1 import launcher_pb2


def save(place: Path, step: int, incarnation: int) -> Path:
    """A durable checkpoint of an incarnation that does not ask."""
    path = stored(place, step, durable=False)
    checkpoint_manifest.write(path, incarnation=incarnation)
    return path


def steps(place: Path) -> list[int]:
    return [each.step for each in find([place]).checkpoints]


def test_a_later_incarnation_bars_the_earlier_ones(tmp_path: Path) -> None:
    fence.raise_to(tmp_path / "r", "r", 3)
    fence.raise_to(tmp_path / "r", "r", 3)
    fence.raise_to(tmp_path / "r", "r", 5)
    with pytest.raises(fence.Superseded, match="incarnation 5 of the run has taken the place of 3"):
        fence.raise_to(tmp_path / "r", "r", 3)
    kept = fence.read(tmp_path / "r")
    assert kept is not None
    assert (kept.run, kept.incarnation) == ("r", 5)
    assert [path.name for path in (tmp_path / "r").iterdir()] == [fence.FENCE]


def test_a_superseded_writer_cannot_make_a_checkpoint_durable(tmp_path: Path) -> None:
    fence.raise_to(tmp_path, "r", 2)
    path = stored(tmp_path, 10, durable=False)
    shelf = Shelf([tmp_path], Retention(), incarnation=2)
    fence.raise_to(tmp_path, "r", 3)
    with pytest.raises(fence.Superseded):
        shelf.seal(path)
    assert durable(tmp_path) == []
    with pytest.raises(fence.Superseded):
        claimed(tmp_path, 2).hold()
    claimed(tmp_path, 3).hold()


def test_what_a_superseded_writer_finished_all_the_same_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It had looked at the fence before that was raised, and went on long after."""
    fence.raise_to(tmp_path, "r", 1)
    save(tmp_path, 10, 1)
    save(tmp_path, 20, 1)
    fence.raise_to(tmp_path, "r", 2)
    save(tmp_path, 30, 1)
    save(tmp_path, 25, 2)
    assert steps(tmp_path) == [25, 20, 10]
    assert "30 is passed over: an incarnation wrote it that was over by then" in caplog.text
    shelf = Shelf([tmp_path], Retention(), incarnation=2)
    assert [each.step for each in shelf.all()] == [25, 20, 10]
    assert shelf.durable(30) is None
    # Nor does the next incarnation take it for a part of the run's past.
    fence.raise_to(tmp_path, "r", 3)
    assert steps(tmp_path) == [25, 20, 10]


def test_a_run_on_one_host_goes_on_on_several(tmp_path: Path) -> None:
    save(tmp_path, 5, 0)
    fence.raise_to(tmp_path, "r", 4)
    assert steps(tmp_path) == [5]


def test_a_run_on_one_host_knows_no_fence(tmp_path: Path) -> None:
    path = stored(tmp_path, 5, durable=False)
    shelf = Shelf([tmp_path], Retention())
    shelf.seal(path)
    assert [each.step for each in shelf.all()] == [5]
    head = json.loads((path / checkpoint_manifest.MANIFEST).read_text().splitlines()[0])
    assert "incarnation" not in head


def test_a_damaged_fence_stops_saving_and_is_no_reason_to_begin_anew(tmp_path: Path) -> None:
    (tmp_path / fence.FENCE).write_text("{")
    with pytest.raises(OSError, match="the fence is damaged"):
        fence.raise_to(tmp_path, "r", 2)
    with pytest.raises(OSError, match="the fence is damaged"):
        claimed(tmp_path, 2).hold()


@pytest.mark.parametrize(
    ("hosts", "gang", "raised"), [(1, False, False), (3, False, True), (3, True, True)]
)
def test_one_host_that_is_left_of_several_bars_those_that_were_given_up(
    tmp_path: Path, hosts: int, gang: bool, raised: bool
) -> None:
    told = launcher_pb2.Assignment(run="r", incarnation=4)
    told.spec.hosts.count = hosts
    told.spec.checkpoint.directory = str(tmp_path / "shared")
    if gang:
        told.gang.process_count = 2
    assert fence.number(told) == (4 if raised else 0)
    asyncio.run(raise_fence(told, RunFiles.of(tmp_path, "r")))
    found = fence.read(tmp_path / "shared" / "r")
    assert (found.incarnation if found else 0) == fence.number(told)
