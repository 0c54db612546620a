"""A snapshot's file is whole, or is not a snapshot: every damage is found."""

from __future__ import annotations

import errno
import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trainerd.actors.snapshot_file import SnapshotFile
from trainerd.actors.snapshot_format import (
    HEADER_AT,
    PREFIX_BYTES,
    Layout,
    Prefix,
    SnapshotDamaged,
    pack_header,
)

KINDS = {"params/w": "float32[3, 5]", "step": "int32[]"}
LAYOUT = Layout.of(KINDS, [60, 4])
META = {"batch": 8, "ledger": [1, 2]}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SnapshotFile]:
    made = SnapshotFile(tmp_path / "a.snapshot")
    yield made
    made.close()


def written(file: SnapshotFile, step: int = 7, value: int = 3) -> SnapshotFile:
    file.reserve(LAYOUT)
    content = file.begin()
    for leaf in LAYOUT.leaves:
        content[leaf.at : leaf.at + leaf.bytes] = value
    file.commit(step, LAYOUT, META)
    return file


def verified(file: SnapshotFile) -> tuple[Prefix, Layout, bytes]:
    prefix, layout, meta = file.read()
    assert meta == META
    with file.data(prefix) as content:
        return (
            prefix,
            layout,
            b"".join(content[leaf.at : leaf.at + leaf.bytes].tobytes() for leaf in layout.leaves),
        )


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as content:
        content.seek(bit // 8)
        (byte,) = content.read(1)
        content.seek(bit // 8)
        content.write(bytes([byte ^ 1 << bit % 8]))


def test_what_was_written_is_read(file: SnapshotFile) -> None:
    prefix, layout, data = verified(written(file))
    assert prefix.step == 7
    assert layout == LAYOUT
    assert data == bytes([3]) * 64


def test_leaves_lie_where_jax_cannot_take_them_for_its_own() -> None:
    assert all(leaf.at % 64 == 8 for leaf in LAYOUT.leaves)


def test_one_that_is_begun_is_no_snapshot_until_it_is_committed(file: SnapshotFile) -> None:
    written(file)
    file.begin()
    with pytest.raises(SnapshotDamaged, match="not marked as whole"):
        file.read()
    file.commit(8, LAYOUT, META)
    assert verified(file)[0].step == 8


def test_room_that_is_there_keeps_its_snapshot(file: SnapshotFile) -> None:
    written(file)
    file.reserve(LAYOUT)
    assert verified(file)[0].step == 7


def test_room_of_another_size_is_made_anew(file: SnapshotFile) -> None:
    written(file)
    other = Layout.of({"params/w": "float32[4096]"}, [16384])
    file.reserve(other)
    assert file.path.stat().st_size == other.file_bytes
    with pytest.raises(SnapshotDamaged):
        file.read()


def test_a_discarded_one_is_no_snapshot(file: SnapshotFile) -> None:
    written(file).discard()
    with pytest.raises(SnapshotDamaged, match="not marked as whole"):
        file.read()


def test_discarding_nothing_is_no_error(file: SnapshotFile) -> None:
    file.discard()
    file.remove()


def test_one_flipped_bit_anywhere_that_counts_is_found(file: SnapshotFile) -> None:
    written(file)
    header = len(pack_header(LAYOUT, META))
    every = [
        *range(PREFIX_BYTES * 8),
        *range(HEADER_AT * 8, (HEADER_AT + header) * 8),
        *(bit for x in LAYOUT.leaves for bit in range(x.at * 8, (x.at + x.bytes) * 8)),
    ]
    for bit in random.Random(1).sample(every, 600) + every[: PREFIX_BYTES * 8]:
        flip(file.path, bit)
        with pytest.raises(SnapshotDamaged):
            verified(file)
        flip(file.path, bit)
    verified(file)


@pytest.mark.parametrize("length", [0, 10, PREFIX_BYTES, HEADER_AT, LAYOUT.data_at + 4])
def test_a_file_cut_short_is_found(file: SnapshotFile, length: int) -> None:
    written(file)
    os.truncate(file.path, length)
    with pytest.raises(SnapshotDamaged):
        file.read()


def test_a_file_of_another_format_is_not_read(file: SnapshotFile, tmp_path: Path) -> None:
    written(file)
    content = bytearray(file.path.read_bytes())
    content[8] += 1
    file.path.write_bytes(content)
    with pytest.raises(SnapshotDamaged):
        file.read()


def test_no_room_is_an_error_at_once_and_not_when_it_is_written(file: SnapshotFile) -> None:
    def full(_descriptor: int, _length_bytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        file.reserve(LAYOUT, full)


def test_a_limit_on_file_sizes_is_an_error_at_once(file: SnapshotFile) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LAYOUT.file_bytes - 1, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.reserve(LAYOUT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_room_is_really_reserved(file: SnapshotFile) -> None:
    file.reserve(LAYOUT)
    assert file.taken_bytes() >= LAYOUT.file_bytes


def test_a_link_is_not_followed(file: SnapshotFile, tmp_path: Path) -> None:
    written(file)
    other = SnapshotFile(tmp_path / "b.snapshot")
    other.path.symlink_to(file.path)
    with pytest.raises(OSError, match="symbolic"):
        other.read()


def test_what_a_run_says_of_itself_must_have_room(file: SnapshotFile) -> None:
    file.reserve(LAYOUT)
    file.begin()
    with pytest.raises(ValueError, match="there is room for"):
        file.commit(1, LAYOUT, {"ledger": "x" * 2_000_000})


def test_others_may_not_read_it(file: SnapshotFile) -> None:
    assert written(file).path.stat().st_mode & 0o777 == 0o600


def test_an_array_of_the_file_outlives_its_mapping(file: SnapshotFile) -> None:
    written(file)
    content = file.begin()
    file.close()
    assert np.count_nonzero(content[LAYOUT.leaves[0].at :][:60]) == 60
