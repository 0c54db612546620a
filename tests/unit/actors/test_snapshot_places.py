"""Memory that snapshots take is given back: when a run is over, gone, or its launcher is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainerd.actors.launcher.snapshot_places import SnapshotPlaces
from trainerd.v1 import launcher_pb2


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    place = tmp_path / "memory"
    place.mkdir()
    return place


@pytest.fixture
def state(tmp_path: Path) -> Path:
    place = tmp_path / "state"
    place.mkdir()
    return place


def filled(places: SnapshotPlaces, run: str) -> Path:
    place = places.of(run)
    assert place is not None
    place.mkdir(mode=0o700)
    (place / "a.snapshot").write_bytes(b"x")
    return place


def test_every_run_has_a_place_of_its_own_for_this_user_only(memory: Path, state: Path) -> None:
    places = SnapshotPlaces(state, memory=memory)
    one, other = filled(places, "one"), filled(places, "other")
    assert one != other
    for directory in (one.parent, one.parent.parent):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_launchers_are_told_apart_by_their_state_directories(memory: Path, tmp_path: Path) -> None:
    one = SnapshotPlaces(tmp_path / "a", memory=memory).of("run")
    assert one != SnapshotPlaces(tmp_path / "b", memory=memory).of("run")
    assert one == SnapshotPlaces(tmp_path / "a", memory=memory).of("run")


def test_a_run_that_is_over_leaves_nothing(memory: Path, state: Path) -> None:
    places = SnapshotPlaces(state, memory=memory)
    place, other = filled(places, "run"), filled(places, "other")
    places.remove("run")
    assert not place.exists()
    assert other.exists()
    places.remove("run")


def test_its_memory_is_freed_in_the_background_and_its_name_is_free_at_once(
    memory: Path, state: Path
) -> None:
    later = []
    places = SnapshotPlaces(state, memory=memory, run_in_background=later.append)
    place = filled(places, "run")
    places.remove("run")
    assert not place.exists()
    filled(places, "run")
    for work in later:
        work()
    assert place.exists()


def test_whoever_trains_has_the_memory_to_itself(memory: Path, state: Path) -> None:
    places = SnapshotPlaces(state, memory=memory)
    mine, other = filled(places, "mine"), filled(places, "other")
    places.remove_others("mine")
    assert mine.exists()
    assert not other.exists()


def test_a_launcher_removes_what_runs_that_are_gone_have_left(memory: Path, state: Path) -> None:
    first = SnapshotPlaces(state, memory=memory)
    kept, gone, half = filled(first, "kept"), filled(first, "gone"), filled(first, "half.removed")
    SnapshotPlaces(state, memory=memory).sweep(lambda run: run == "kept")
    assert kept.exists()
    assert not gone.exists()
    assert not half.exists()


def test_a_launcher_removes_what_launchers_that_are_gone_have_left(
    memory: Path, state: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    gone = filled(SnapshotPlaces(tmp_path / "never", memory=memory), "run")
    there = filled(SnapshotPlaces(elsewhere, memory=memory), "run")
    SnapshotPlaces(state, memory=memory).sweep(lambda run: True)
    assert not gone.parent.exists()
    assert there.exists()


def test_nothing_is_left_where_no_run_is_to_go_on(memory: Path, state: Path) -> None:
    places = SnapshotPlaces(state, memory=memory)
    filled(places, "run")
    places.remove("run")
    filled(places, "failed-long-ago")
    places.close(())
    assert list(memory.iterdir()) == []


def test_what_is_to_go_on_stays_when_the_launcher_ends(memory: Path, state: Path) -> None:
    places = SnapshotPlaces(state, memory=memory)
    place = filled(places, "run")
    other = filled(places, "failed-long-ago")
    places.close({"run"})
    assert (place / "a.snapshot").exists()
    assert not other.exists()


def test_a_place_that_somebody_else_could_write_to_is_not_used(memory: Path, state: Path) -> None:
    place = SnapshotPlaces(state, memory=memory).of("run")
    assert place is not None
    place.parent.parent.chmod(0o777)
    assert SnapshotPlaces(state, memory=memory).of("run") is None


def test_without_memory_to_write_to_there_is_no_place(tmp_path: Path, state: Path) -> None:
    places = SnapshotPlaces(state, memory=tmp_path / "missing")
    assert places.of("run") is None
    places.sweep(lambda run: False)
    places.remove("run")
    places.close(())


def test_a_trainer_is_told_its_place_and_its_share(memory: Path, state: Path) -> None:
    places = SnapshotPlaces(state, memory=memory)
    other = filled(places, "other")
    told = launcher_pb2.Assignment(run="mine")
    places.assign(told, 0.25)
    assert told.snapshot_directory == str(places.of("mine"))
    assert 0 < told.snapshot_bytes < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert not other.exists()


def test_without_a_share_there_are_no_snapshots(memory: Path, state: Path) -> None:
    told = launcher_pb2.Assignment(run="mine")
    SnapshotPlaces(state, memory=memory).assign(told, 0.0)
    assert told == launcher_pb2.Assignment(run="mine")
