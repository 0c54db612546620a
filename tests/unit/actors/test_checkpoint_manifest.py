"""Manifests: a checkpoint is exactly what was written, or the file that is not is named."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trainerd.actors import checkpoint_files, checkpoint_manifest
from trainerd.actors.checkpoint_manifest import MANIFEST, DigestMismatch, Unverified
from trainerd.actors.checksum import checksum

LARGE_BYTES = 3 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint of step 40 with a manifest; one of its files is large."""
    made = tmp_path / "40"
    for name in ("_CHECKPOINT_METADATA", "state/_METADATA", "meta/metadata", "state/d/small"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(f"{name} of 40")
    (made / "state" / "d" / "large").write_bytes(random.Random(0).randbytes(LARGE_BYTES))
    checkpoint_manifest.write(made)
    return made


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def test_what_was_written_is_verified(path: Path) -> None:
    checkpoint_manifest.verify(path)
    checkpoint_manifest.verify(path, from_disk=True)


def test_a_manifest_names_every_file_with_its_size_and_digests(path: Path) -> None:
    manifest = checkpoint_manifest.read(path)
    assert manifest.step == 40
    assert [file.name for file in manifest.files] == [
        "_CHECKPOINT_METADATA",
        "meta/metadata",
        "state/_METADATA",
        "state/d/large",
        "state/d/small",
    ]
    for file in manifest.files:
        content = (path / file.name).read_bytes()
        assert file.size_bytes == len(content)
        assert file.sha256 == hashlib.sha256(content).hexdigest()
        assert file.xxh3_128 == checksum(content).hex()
    assert manifest.size_bytes == sum(file.size_bytes for file in manifest.files)


def test_everything_is_on_the_disk_before_the_manifest_and_that_before_it_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, then the directories that name them, then the manifest, then its own name."""
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        done.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), path))
        sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append("renamed")
        return rename(self, target)

    (path / MANIFEST).unlink()
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    manifest = checkpoint_manifest.write(path)
    files = [file.name for file in manifest.files]
    assert done[: len(files)] == files
    directories = {".", "state", "state/d", "meta"}
    assert set(done[len(files) : len(files) + 4]) == directories
    assert done[len(files) + 4 :] == [f"{MANIFEST}.new", "renamed", ".", ".."]


def test_only_a_committed_checkpoint_with_its_manifest_is_durable(path: Path) -> None:
    assert checkpoint_files.is_durable(path)
    (path / MANIFEST).rename(path.parent / "away")
    assert checkpoint_files.is_committed(path)
    assert not checkpoint_files.is_durable(path)
    (path.parent / "away").rename(path / MANIFEST)
    (path / "meta" / "metadata").unlink()
    assert not checkpoint_files.is_durable(path)


def test_without_a_manifest_nothing_vouches_for_it(path: Path) -> None:
    (path / MANIFEST).unlink()
    with pytest.raises(Unverified, match=MANIFEST):
        checkpoint_manifest.verify(path)
    with pytest.raises(Unverified):
        checkpoint_manifest.verify(path / "absent")


def test_any_bit_flipped_anywhere_is_found_and_its_file_is_named(path: Path) -> None:
    draw = random.Random(1)
    names = [file.name for file in checkpoint_manifest.read(path).files]
    for name in (*names, MANIFEST):
        for _ in range(8):
            bit = draw.randrange(8 * (path / name).stat().st_size)
            flip(path / name, bit)
            with pytest.raises(DigestMismatch) as raised:
                checkpoint_manifest.verify(path)
            assert raised.value.file == name
            with pytest.raises(DigestMismatch) as raised:
                checkpoint_manifest.verify_data(path, checkpoint_manifest.verify_structure(path))
            assert raised.value.file == name
            flip(path / name, bit)
    checkpoint_manifest.verify(path)


def test_every_bit_of_the_manifest_itself_counts(path: Path) -> None:
    content = (path / MANIFEST).read_bytes()
    for bit in range(8 * len(content)):
        flip(path / MANIFEST, bit)
        with pytest.raises(DigestMismatch):
            checkpoint_manifest.read(path)
        (path / MANIFEST).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda file: os.truncate(file, LARGE_BYTES // 2), f"{LARGE_BYTES // 2} bytes, expected"),
        (lambda file: os.truncate(file, 0), "is of 0 bytes, expected"),
        (lambda file: os.truncate(file, LARGE_BYTES + 1), f"{LARGE_BYTES + 1} bytes, expected"),
        (lambda file: file.unlink(), "is missing, expected"),
        (lambda file: shutil.rmtree(file.parent), "is missing, expected"),
        (lambda file: (file.parent / "e").write_text(""), "was added later"),
        (lambda file: flip(file, 5), "has the SHA-256"),
    ],
    ids=["truncated", "emptied", "grown", "missing", "half copied", "added", "flipped"],
)
def test_damage_is_named_with_what_was_expected(
    path: Path, damage: Callable[[Path], None], problem: str
) -> None:
    damage(path / "state" / "d" / "large")
    with pytest.raises(DigestMismatch) as raised:
        checkpoint_manifest.verify(path)
    assert problem in str(raised.value)
    assert str(path / raised.value.file) in str(raised.value)


def test_what_describes_the_arrays_is_verified_before_they_are(path: Path) -> None:
    manifest = checkpoint_manifest.verify_structure(path)
    flip(path / "state" / "d" / "large", 77)
    assert checkpoint_manifest.verify_structure(path) == manifest
    with pytest.raises(DigestMismatch, match="large"):
        checkpoint_manifest.verify_data(path, manifest)
    flip(path / "state" / "d" / "small", 7)
    with pytest.raises(DigestMismatch, match="small"):
        checkpoint_manifest.verify_structure(path)


def test_the_manifest_of_another_step_is_refused(path: Path) -> None:
    path.rename(path.with_name("41"))
    with pytest.raises(DigestMismatch, match="manifest of step 40, expected 41"):
        checkpoint_manifest.verify(path.with_name("41"))
    path.with_name("41").rename(path.with_name("best"))
    checkpoint_manifest.verify(path.with_name("best"))


def test_a_later_format_is_unverified_not_damaged(path: Path) -> None:
    body = json.dumps({"format": 2, "of": "a later version"}).encode() + b"\n"
    seal = json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n"
    (path / MANIFEST).write_bytes(body + seal)
    with pytest.raises(Unverified, match="is of format 2, expected 1"):
        checkpoint_manifest.verify(path)


def test_a_note_beside_the_items_is_nobodys_harm(path: Path) -> None:
    (path / "NOTE").write_text("the good one")
    checkpoint_manifest.verify(path)


def test_a_link_in_place_of_a_file_is_refused(path: Path) -> None:
    data = path / "state" / "d" / "small"
    data.rename(path.parent / "elsewhere")
    data.symlink_to(path.parent / "elsewhere")
    with pytest.raises(DigestMismatch, match="small is not a file any more"):
        checkpoint_manifest.verify(path)
    with pytest.raises(OSError, match="small"):
        checkpoint_manifest.write(path)


def test_a_manifest_that_cannot_be_written_leaves_none(path: Path) -> None:
    (path / MANIFEST).unlink()
    (path / f"{MANIFEST}.new").mkdir()
    with pytest.raises(IsADirectoryError):
        checkpoint_manifest.write(path)
    assert not checkpoint_files.is_durable(path)
