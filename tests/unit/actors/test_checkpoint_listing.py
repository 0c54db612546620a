"""What a host says of a run's checkpoints: durable, unverified, damaged, and why."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from fakes.stored_checkpoints import stored
from trainerd.actors import checkpoint_damage, checkpoint_files, checkpoint_manifest
from trainerd.actors.checkpoint_claim import Claim
from trainerd.actors.checkpoint_manifest import MANIFEST
from trainerd.actors.launcher import checkpoint_adoption, checkpoint_listing
from trainerd.v1 import checkpoint_pb2

DURABLE = checkpoint_pb2.CHECKPOINT_STATE_DURABLE
UNVERIFIED = checkpoint_pb2.CHECKPOINT_STATE_UNVERIFIED
DAMAGED = checkpoint_pb2.CHECKPOINT_STATE_DAMAGED
UNREADABLE = checkpoint_pb2.CHECKPOINT_STATE_UNREADABLE


def spoil(path: Path) -> None:
    data = path / "state" / "d" / "data"
    data.write_text(data.read_text().replace("arrays", "Arrays"))


def test_all_of_all_directories_are_listed_newest_first(tmp_path: Path) -> None:
    own, fallback = tmp_path / "own", tmp_path / "fallback"
    stored(own, 5)
    stored(fallback, 7)
    stored(own, 9, durable=False)
    (own / "11").mkdir()
    (own / "pins").mkdir()
    found = checkpoint_listing.stored([own, fallback, tmp_path / "absent"])
    assert [(each.step, each.path, each.state) for each in found] == [
        (9, str(own / "9"), UNVERIFIED),
        (7, str(fallback / "7"), DURABLE),
        (5, str(own / "5"), DURABLE),
    ]
    assert MANIFEST in found[0].problem
    assert not any(each.verified or each.reason for each in found)


def test_a_durable_one_is_listed_with_its_size_and_when_and_how_long_it_was_saved(
    tmp_path: Path,
) -> None:
    before_s = time.time()
    path = stored(tmp_path, 5)
    (found,) = checkpoint_listing.stored([tmp_path])
    assert found.bytes == checkpoint_files.size_bytes(path)
    assert found.duration_s >= 1.5
    assert found.saved_time.ToNanoseconds() == (path / MANIFEST).stat().st_mtime_ns
    assert found.saved_time.ToNanoseconds() / 1e9 >= before_s - 1.0
    (path / "_CHECKPOINT_METADATA").write_text("not json")
    (found,) = checkpoint_listing.stored([tmp_path])
    assert not found.HasField("duration_s")


def test_a_listing_reads_no_data(tmp_path: Path) -> None:
    spoil(stored(tmp_path, 5))
    (found,) = checkpoint_listing.stored([tmp_path])
    assert found.state == DURABLE
    assert not found.verified


def test_a_verification_marks_what_is_not_what_was_saved_and_says_why(tmp_path: Path) -> None:
    stored(tmp_path, 5)
    spoil(stored(tmp_path, 7))
    bad, good = checkpoint_listing.stored([tmp_path], verify=True)
    assert (good.step, good.state, good.verified) == (5, DURABLE, True)
    assert (bad.step, bad.state, bad.verified) == (7, DAMAGED, True)
    assert bad.reason == "digest_mismatch"
    assert "state/d/data has the SHA-256" in bad.problem
    assert bad.path == str(tmp_path / "7.damaged")
    assert [each.step for each in checkpoint_files.durable(tmp_path)] == [5]
    # From then on it is listed as such, by everybody.
    again, _ = checkpoint_listing.stored([tmp_path], verify=True)
    assert (again.state, again.verified, again.problem) == (DAMAGED, False, bad.problem)
    assert again.HasField("damaged_time")
    assert again.HasField("saved_time")


def test_one_that_another_takes_the_place_of_meanwhile_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may go back and save the same step anew while it is being read."""
    path = stored(tmp_path, 5)
    verify = checkpoint_manifest.verify
    calls = []

    def replaced_first(at: Path, *, from_disk: bool = False) -> None:
        calls.append(at)
        if len(calls) == 1:
            spoil(path)
            try:
                verify(at, from_disk=from_disk)
            finally:
                shutil.rmtree(path)
                stored(tmp_path, 5)
        verify(at, from_disk=from_disk)

    monkeypatch.setattr(checkpoint_manifest, "verify", replaced_first)
    (found,) = checkpoint_listing.stored([tmp_path], verify=True)
    assert len(calls) == 2
    assert (found.state, found.verified, found.path) == (DURABLE, True, str(path))


def test_one_that_is_removed_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path, 5)
    stored(tmp_path, 7)
    verify = checkpoint_manifest.verify

    def removing(at: Path, *, from_disk: bool = False) -> None:
        shutil.rmtree(tmp_path / "7", ignore_errors=True)
        verify(at, from_disk=from_disk)

    monkeypatch.setattr(checkpoint_manifest, "verify", removing)
    (found,) = checkpoint_listing.stored([tmp_path], verify=True)
    assert (found.step, found.state) == (5, DURABLE)


def test_one_that_cannot_be_read_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path, 5)

    def failing(at: Path, *, from_disk: bool = False) -> None:
        raise OSError(5, "Input/output error", str(at / "state"))

    monkeypatch.setattr(checkpoint_manifest, "verify", failing)
    (found,) = checkpoint_listing.stored([tmp_path], verify=True)
    assert (found.state, found.reason, found.path) == (UNREADABLE, "io_error", str(path))
    assert "Input/output error" in found.problem
    assert path.is_dir()


def test_a_directory_that_cannot_be_listed_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    stored(tmp_path / "other", 5)
    good, bad = checkpoint_listing.stored([tmp_path / "loop", tmp_path / "other"])
    assert (good.step, good.state) == (5, DURABLE)
    assert (bad.step, bad.state, bad.path) == (-1, UNREADABLE, str(tmp_path / "loop"))
    assert "loop cannot be read: Too many levels of symbolic links" in bad.problem


def test_one_without_a_manifest_is_adopted_as_it_is(tmp_path: Path) -> None:
    own, fallback = tmp_path / "own", tmp_path / "fallback"
    stored(own, 5)
    path = stored(fallback, 7, durable=False)
    (listed, _) = checkpoint_listing.stored([own, fallback])
    assert listed.state == UNVERIFIED
    assert "--adopt 7" in listed.problem
    answer = checkpoint_adoption.adopt([own, fallback], 7)
    (told,) = answer.checkpoints
    assert (told.step, told.state, told.path) == (7, DURABLE, str(path))
    checkpoint_manifest.verify(path)


def test_what_cannot_be_adopted_is_left_as_it_is(tmp_path: Path) -> None:
    stored(tmp_path, 5)
    path = stored(tmp_path, 7, durable=False)
    (tmp_path / "9").mkdir()
    for step, problem in (
        (5, "the checkpoint of step 5 is durable already"),
        (9, "the checkpoint of step 9 is not there, or is not a whole one"),
    ):
        assert checkpoint_adoption.adopt([tmp_path], step).problem == problem
    claim = Claim(tmp_path)
    claim.hold()
    refused = checkpoint_adoption.adopt([tmp_path], 7)
    assert "another process saves its checkpoints here" in refused.problem
    assert not checkpoint_files.is_durable(path)
    claim.close()
    assert not checkpoint_adoption.adopt([tmp_path], 7).problem


def test_damage_is_kept_with_its_reason_or_without_if_nobody_wrote_it(tmp_path: Path) -> None:
    for step in (5, 5, 7):
        checkpoint_damage.mark(stored(tmp_path, step), reason="serialization", problem=f"{step}")
    (tmp_path / "7.damaged" / checkpoint_damage.WHY).unlink()
    (tmp_path / "x.damaged").mkdir()
    found = checkpoint_damage.damaged(tmp_path)
    assert [(each.step, each.path.name, each.damage.problem) for each in found] == [
        (7, "7.damaged", "nobody has written down why"),
        (5, "5.damaged", "5"),
        (5, "5.damaged.1", "5"),
    ]
    assert checkpoint_damage.damaged(tmp_path / "absent") == []
