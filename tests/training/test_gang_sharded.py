"""Sharded state over several processes: each holds, snapshots and restores its own part."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import gang as gangs
from fakes.gang import Members
from trainerd.actors.snapshot_file import SnapshotFile
from trainerd.actors.snapshot_format import SnapshotDamaged
from trainerd.actors.snapshots import STAMP

PLAN: dict[str, Any] = {
    "steps": 12,
    "global_batch": 24,
    "microbatch": 4,
    "checkpoint_every_steps": 100,
    "state": "sharded",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    steps = tmp_path_factory.mktemp("steps")
    with gangs.gang(2, devices=2, executables=steps) as members:
        yield members


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    steps = tmp_path_factory.mktemp("steps")
    with gangs.gang(1, devices=2, executables=steps) as members:
        yield members


@pytest.fixture(scope="module")
def undisturbed(pair: Members, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("undisturbed")
    said = train(pair, checkpoints=str(place / "checkpoints"))
    return {**equal(said), "place": str(place)}


def train(members: Members, **told: Any) -> list[dict[str, Any]]:
    return members.train(**{"plan": PLAN, "wide": True, **told})


def equal(said: list[dict[str, Any]]) -> dict[str, Any]:
    """What all members say, who must agree on what follows from the run."""
    names = ("reason", "step", "digest", "durable", "durable_step", "losses")
    for other in said[1:]:
        assert {name: other[name] for name in names} == {name: said[0][name] for name in names}
    return said[0]


def restored(said: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(member["restored"][-1][0], member["restored"][-1][1]) for member in said]


def test_the_run_is_the_replicated_one_and_its_checkpoint_serves_any_layout(
    undisturbed: dict[str, Any], pair: Members, one: Members, tmp_path: Path
) -> None:
    whole = equal(train(pair, plan={**PLAN, "state": "replicated"}, checkpoints=str(tmp_path)))
    np.testing.assert_allclose(undisturbed["losses"], whole["losses"], rtol=1e-5)
    np.testing.assert_allclose(undisturbed["evaluated"], whole["evaluated"], rtol=1e-5)
    assert (undisturbed["step"], undisturbed["durable"]) == (12, True)
    # A run that has reached its last step restores it, and says what it is.
    for members, state in ((one, "replicated"), (one, "sharded"), (pair, "replicated")):
        told = {**PLAN, "state": state}
        again = train(members, plan=told, checkpoints=f"{undisturbed['place']}/checkpoints")
        assert equal(again)["digest"] == undisturbed["digest"]
    again = train(pair, checkpoints=str(tmp_path))
    assert equal(again)["digest"] == whole["digest"]
    assert restored(again) == [(12, str(tmp_path / "12"))] * 2


@pytest.mark.parametrize("member", ["0", "1"])
def test_what_one_process_is_asked_for_all_do_and_one_saves(
    pair: Members, tmp_path: Path, member: str
) -> None:
    """A save, a pause and a stop, of the first process or of another one."""
    said = train(
        pair,
        plan={**PLAN, "steps": 40},
        checkpoints=str(tmp_path),
        only={member: {"save_at": 2, "pause_at": 5, "stop_at": 9}},
    )
    result = equal(said)
    assert result["reason"] == "preempted"
    assert result["digest"] != ""
    assert (result["durable"], result["durable_step"]) == (True, result["step"])
    asked, paused, last = said[0]["saved"]
    assert 2 <= asked <= paused < last == result["step"]
    assert said[1]["saved"] == []
    assert said[0]["paused"] == 1


def test_all_go_back_together(undisturbed: dict[str, Any], pair: Members, tmp_path: Path) -> None:
    said = train(
        pair,
        plan={**PLAN, "checkpoint_every_steps": 2, "checkpoint_keep": 20},
        rules={"data_error": {"action": "restart", "limit": 0, "window_s": 60.0}},
        broken=[3],
        verdict="rollback",
        back=2,
        checkpoints=str(tmp_path),
    )
    result = equal(said)
    assert said[0]["rolled_back"] != []
    assert result["durable_step"] == 12
    assert result["digest"] not in {"", undisturbed["digest"]}


def test_saves_that_fail_are_tried_again_by_all_and_hold_up_nobody(
    undisturbed: dict[str, Any], pair: Members, tmp_path: Path
) -> None:
    """A save that the first process makes anew takes all others: they must hear of it first."""
    place = tmp_path / "file"
    place.write_text("no directory")
    said = train(
        pair,
        plan={**PLAN, "checkpoint_every_steps": 3, "final_save_timeout_s": 2.0},
        checkpoints=str(place),
    )
    result = equal(said)
    assert (result["step"], result["durable"]) == (12, False)
    assert result["digest"] == undisturbed["digest"]
    assert set(said[0]["faults"]) == {"checkpoint_save_failed"}
    assert said[1]["faults"] == []


class Interrupted:
    """A run that ended without a save after a few steps, with snapshots of both processes."""

    def __init__(self, pair: Members, place: Path) -> None:
        self.memory = place / "memory"
        self.told = {"checkpoints": str(place / "r"), "snapshots": str(self.memory / "{}")}
        plan = {**PLAN, "steps": 40, "checkpoint_every_steps": 5}
        said = train(pair, plan=plan, **self.told, stop_at=6, stop_saves=False)
        assert [member["durable_step"] for member in said] == [5, -1]

    def stamps(self) -> set[str]:
        """Of all processes' snapshots."""
        stamps = set()
        for path in self.memory.glob("*/*.snapshot"):
            # The second of two need not have been written to.
            with contextlib.suppress(SnapshotDamaged):
                stamps.add(SnapshotFile(path).read()[2][STAMP])
        return stamps


def test_the_snapshots_of_all_serve_the_next_gang_and_those_of_some_do_not(
    undisturbed: dict[str, Any], pair: Members, tmp_path: Path
) -> None:
    run = Interrupted(pair, tmp_path)
    shutil.copytree(tmp_path, tmp_path / "again")
    # Without checkpoints it begins with the snapshots, or anew.
    shutil.rmtree(run.told["checkpoints"])
    said = train(pair, **run.told)
    assert equal(said)["digest"] == undisturbed["digest"]
    steps = {step for step, _ in restored(said)}
    assert len(steps) == 1
    assert steps.pop() > 0
    assert [
        source.startswith(str(run.memory / str(n))) for n, (_, source) in enumerate(restored(said))
    ] == [
        True,
        True,
    ]
    # One host has lost its memory: what is left of the other's is of no use.
    place = tmp_path / "again"
    for path in (place / "memory" / "1").iterdir():
        path.unlink()
    told = {"checkpoints": str(place / "r"), "snapshots": str(place / "memory" / "{}")}
    said = train(pair, **told)
    assert restored(said) == [(5, str(place / "r" / "5"))] * 2
    assert equal(said)["digest"] == undisturbed["digest"]


def stamp(path: Path, text: str) -> None:
    file = SnapshotFile(path)
    with contextlib.suppress(SnapshotDamaged):
        prefix, layout, meta = file.read()
        file.reserve(layout)
        file.begin()
        file.commit(prefix.step, layout, {**meta, STAMP: text})
    file.close()


def test_a_part_is_never_taken_for_another_one_or_another_moment(
    pair: Members, tmp_path: Path
) -> None:
    run = Interrupted(pair, tmp_path / "one")
    other = Interrupted(pair, tmp_path / "other")
    assert len(run.stamps()) == len(other.stamps()) == 1
    assert run.stamps() != other.stamps()
    shutil.rmtree(run.told["checkpoints"])
    # As if another gang had taken the second process's, at the same steps of the same run.
    for path in (run.memory / "1").iterdir():
        stamp(path, "another")
    said = train(pair, **run.told)
    assert restored(said) == [(0, "init")] * 2
    # Exchanged between the two processes.
    (other.memory / "0").rename(other.memory / "2")
    (other.memory / "1").rename(other.memory / "0")
    (other.memory / "2").rename(other.memory / "1")
    said = train(pair, **other.told)
    assert restored(said) == [(5, str(Path(other.told["checkpoints"]) / "5"))] * 2


def test_a_checkpoint_that_one_process_cannot_see_ends_the_gang_instead_of_beginning_anew(
    undisturbed: dict[str, Any], pair: Members, tmp_path: Path
) -> None:
    there = f"{undisturbed['place']}/checkpoints"
    said = train(pair, checkpoints=there, only={"1": {"checkpoints": str(tmp_path)}})
    for member in said:
        assert member["asked_classes"] == ["checkpoint_corrupt"]
        assert "of step 12 cannot be read by process 1 of 2" in member["asked"][0]
