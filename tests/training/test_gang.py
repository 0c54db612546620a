"""Programs trained by several processes over Gloo: the same run, whatever it is spread over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import gang as gangs
from fakes.gang import Members
from fakes.training import EXAMPLES

PLAN: dict[str, Any] = {
    "steps": 8,
    "global_batch": 24,
    "microbatch": 4,
    "checkpoint_every_steps": 100,
    "exact_across_hosts": True,
}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled steps are kept, for all processes of this file: no run compiles another's."""
    return tmp_path_factory.mktemp("steps")


@pytest.fixture(scope="module")
def one(steps: Path) -> Iterator[Members]:
    with gangs.gang(1, executables=steps) as members:
        yield members


@pytest.fixture(scope="module")
def pair(steps: Path) -> Iterator[Members]:
    with gangs.gang(2, executables=steps) as members:
        yield members


@pytest.fixture(scope="module")
def trio(steps: Path) -> Iterator[Members]:
    with gangs.gang(3, executables=steps) as members:
        yield members


@pytest.fixture(scope="module")
def undisturbed(one: Members, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("undisturbed")
    return one.train(plan=PLAN, checkpoints=str(place))[0]


def equal(said: list[dict[str, Any]]) -> dict[str, Any]:
    """What all members say, who must agree on what follows from the run."""
    names = ("reason", "step", "digest", "durable", "durable_step", "masked", "skipped", "losses")
    for other in said[1:]:
        assert {name: other[name] for name in names} == {name: said[0][name] for name in names}
    return said[0]


def test_the_state_is_the_same_to_the_bit_on_one_two_and_three_processes(
    undisturbed: dict[str, Any], pair: Members, trio: Members, tmp_path: Path
) -> None:
    for number, members in enumerate((pair, trio)):
        said = members.train(plan=PLAN, checkpoints=str(tmp_path / str(number)))
        result = equal(said)
        assert result["processes"] == len(members.members)
        assert (result["step"], result["durable"]) == (8, True)
        assert result["digest"] == undisturbed["digest"]
        assert result["losses"] == undisturbed["losses"]


def test_each_example_is_read_by_one_process_whatever_joins_and_leaves(
    one: Members, pair: Members, trio: Members, tmp_path: Path
) -> None:
    """3 processes, then 1, then 2 go on with one run: each reads its slots, and nothing else."""
    for steps, members in ((4, trio), (6, one), (8, pair)):
        said = members.train(plan={**PLAN, "steps": steps}, checkpoints=str(tmp_path))
        equal(said)
        shares = [Counter(member["reads"][1:]) for member in said]
        for share in shares:
            # The first read is for the shape of an example.
            assert sum(share.values()) in (96 // len(said), 48 // len(said))
        together = sum(shares, Counter())
        assert max(together.values()) == 1
    # Eight batches of 24 are two passes over 96 examples.
    assert EXAMPLES == 96


def test_a_source_that_raises_for_one_process_skips_the_batch_for_all(
    undisturbed: dict[str, Any], one: Members, pair: Members, tmp_path: Path
) -> None:
    told: dict[str, Any] = {"plan": {**PLAN, "steps": 5}, "broken": [3]}
    alone = one.train(**told, checkpoints=str(tmp_path / "alone"))[0]
    said = pair.train(**told, checkpoints=str(tmp_path / "pair"))
    result = equal(said)
    assert result["skipped"] == alone["skipped"] > 0
    assert result["digest"] == alone["digest"]
    # One speaks for all, and names the process whose source it is.
    assert said[0]["faults"] == ["data_error"] * alone["skipped"]
    assert said[1]["faults"] == []
    assert "example 3" in said[0]["messages"][0]


def test_a_fault_beyond_the_allowance_is_asked_about_once(pair: Members, tmp_path: Path) -> None:
    limit = {"action": "skip", "limit": 0, "window_s": 60.0}
    said = pair.train(
        plan={**PLAN, "steps": 5},
        rules={"data_error": limit},
        broken=[3],
        checkpoints=str(tmp_path),
    )
    equal(said)
    assert len(said[0]["asked"]) == said[0]["skipped"] > 0
    assert said[1]["asked"] == []


def test_rules_that_one_process_is_told_of_hold_for_all_from_the_same_step(
    pair: Members, tmp_path: Path
) -> None:
    said = pair.train(
        plan={**PLAN, "steps": 16},
        nan=[3, 40, 77],
        checkpoints=str(tmp_path),
        only={"0": {"masks_until": 6}},
    )
    result = equal(said)
    assert result["masked"] > 0
    assert result["skipped"] > 0
    assert set(said[0]["faults"]) == {"non_finite_microbatch"}
    assert said[1]["faults"] == []


def test_weights_that_only_one_process_knows_count_for_all(
    one: Members, pair: Members, tmp_path: Path
) -> None:
    told: dict[str, Any] = {"plan": PLAN, "nan": [3], "weighed": True}
    alone = one.train(**told, checkpoints=str(tmp_path / "alone"))[0]
    result = equal(pair.train(**told, checkpoints=str(tmp_path / "pair")))
    assert (result["masked"], result["digest"]) == (alone["masked"], alone["digest"])
    assert result["masked"] > 0


def test_all_go_back_together_to_the_state_that_one_process_would_go_back_to(
    one: Members, pair: Members, tmp_path: Path
) -> None:
    told: dict[str, Any] = {
        "plan": {**PLAN, "steps": 12, "checkpoint_every_steps": 2, "checkpoint_keep": 20},
        "rules": {"data_error": {"action": "restart", "limit": 0, "window_s": 60.0}},
        "broken": [3],
        "verdict": "rollback",
        "back": 2,
    }
    alone = one.train(**told, checkpoints=str(tmp_path / "alone"))[0]
    said = pair.train(**told, checkpoints=str(tmp_path / "pair"))
    result = equal(said)
    assert result["digest"] == alone["digest"]
    assert said[0]["rolled_back"] == alone["rolled_back"] != []
    # What all do one says.
    assert said[1]["rolled_back"] == []


@pytest.mark.parametrize("member", ["0", "1"])
def test_what_one_process_is_asked_for_all_do_at_the_same_step(
    pair: Members, tmp_path: Path, member: str
) -> None:
    """A stop, a save and a pause, of the first process or of another one."""
    said = pair.train(
        plan={**PLAN, "steps": 40},
        checkpoints=str(tmp_path),
        only={member: {"save_at": 2, "pause_at": 5, "stop_at": 9}},
    )
    result = equal(said)
    assert result["reason"] == "preempted"
    # Said in the next step, read when one more is in flight.
    assert 9 <= result["step"] <= 12
    assert (result["durable"], result["durable_step"]) == (True, result["step"])
    assert said[0]["paused"] == 1
    assert said[1]["paused"] == 0
    saved = said[0]["saved"]
    # Asked for, before the pause, at the end; by the first process alone.
    assert len(saved) == 3
    assert 2 <= saved[0] <= 5
    assert 5 <= saved[1] <= 8
    assert said[1]["saved"] == []


def test_the_newest_state_of_any_process_is_had_by_all(
    pair: Members, one: Members, tmp_path: Path
) -> None:
    """The second process has a snapshot of a later step than any checkpoint; the first has none."""
    whole = one.train(plan={**PLAN, "steps": 12}, checkpoints=str(tmp_path / "whole"))[0]
    memory = tmp_path / "memory"
    told = {"checkpoints": str(tmp_path / "r"), "snapshots": str(memory / "{}")}
    pair.train(plan={**PLAN, "steps": 40}, **told, stop_at=6, stop_saves=False)
    kept = sorted(path.parent.name for path in memory.glob("*/*.snap*"))
    assert set(kept) == {"0", "1"}
    for path in (memory / "0").iterdir():
        path.unlink()
    said = pair.train(plan={**PLAN, "steps": 12}, **told)
    result = equal(said)
    restored = [member["restored"][-1] for member in said]
    assert restored[0] == restored[1]
    assert restored[0][0] > 0
    assert restored[0][1].startswith(str(memory / "1"))
    assert result["digest"] == whole["digest"]


def test_a_process_that_cannot_save_does_not_hold_up_the_others(
    pair: Members, tmp_path: Path
) -> None:
    place = tmp_path / "file"
    place.write_text("no directory")
    said = pair.train(
        plan={**PLAN, "checkpoint_every_steps": 3, "final_save_timeout_s": 1.0},
        checkpoints=str(place),
    )
    result = equal(said)
    assert (result["step"], result["durable"]) == (8, False)
    assert set(said[0]["faults"]) == {"checkpoint_save_failed"}
    assert said[1]["faults"] == []


def test_compiled_steps_are_kept_for_each_number_of_processes_and_serve_all(
    pair: Members, tmp_path: Path
) -> None:
    store = tmp_path / "executables"
    told = {"plan": PLAN, "executables": str(store)}
    first = equal(pair.train(**told, checkpoints=str(tmp_path / "1")))
    kept = {path.name: path.stat().st_ino for path in store.glob("*.executable")}
    assert len(kept) == 1
    second = equal(pair.train(**told, checkpoints=str(tmp_path / "2")))
    assert second["digest"] == first["digest"]
    # Loaded by both, not compiled and written again.
    assert {path.name: path.stat().st_ino for path in store.glob("*.executable")} == kept


def test_survivors_of_a_lost_process_end_in_time_and_say_whose_fault_it_is(
    steps: Path,
    tmp_path: Path,
) -> None:
    """Whatever the others are doing just then: a collective gives up after its timeout."""
    with gangs.gang(3, collective_timeout_s=3.0, executables=steps) as members:
        members.begin(plan={**PLAN, "steps": 100_000}, checkpoints=str(tmp_path), say_at=3)
        first, second, third = members.members
        for member in members.members:
            assert member.hear() == {"at": 3}
        third.process.kill()
        for member in (first, second):
            said = member.hear(30.0)
            assert said["reason"] == "decided"
            assert said["asked_classes"] == ["peer_lost"]
