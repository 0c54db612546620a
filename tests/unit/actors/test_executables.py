"""The directory of executables: what is damaged or not ours is not read, and it does not grow."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from trainerd.actors.executables import ExecutableStore, Kept

KEY = "ab12"
KEPT = Kept(note=b"note", executable=bytes(range(200)))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def kept(directory: Path) -> ExecutableStore:
    store = ExecutableStore(directory)
    store.keep(KEY, KEPT)
    return store


def file(directory: Path) -> Path:
    (found,) = directory.glob("*.executable")
    return found


def test_what_is_kept_is_loaded(directory: Path) -> None:
    assert kept(directory).load(KEY) == KEPT


def test_another_key_finds_nothing(directory: Path) -> None:
    assert kept(directory).load("ab13") is None


def test_a_directory_that_is_not_there_holds_nothing(directory: Path) -> None:
    assert ExecutableStore(directory).load(KEY) is None


def test_it_is_for_this_user_only(directory: Path) -> None:
    kept(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert file(directory).stat().st_mode & 0o777 == 0o600


def test_every_flipped_bit_is_found_and_the_file_removed(directory: Path) -> None:
    store = kept(directory)
    whole = file(directory).read_bytes()
    for bit in random.Random(1).sample(range(len(whole) * 8), 300):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path = directory / f"{KEY}.executable"
        path.write_bytes(damaged)
        path.chmod(0o600)
        assert store.load(KEY) is None
        assert not path.exists()


@pytest.mark.parametrize("length", [0, 5, 40, 100])
def test_a_file_cut_short_is_found(directory: Path, length: int) -> None:
    store = kept(directory)
    os.truncate(file(directory), length)
    assert store.load(KEY) is None
    assert not list(directory.iterdir())


def test_a_file_that_others_may_write_to_is_not_read(directory: Path) -> None:
    store = kept(directory)
    file(directory).chmod(0o666)
    assert store.load(KEY) is None


def test_a_directory_that_others_may_write_to_is_not_read(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = kept(directory)
    directory.chmod(0o777)
    assert store.load(KEY) is None
    assert "alone" in caplog.text


def test_nothing_is_written_to_a_directory_that_others_may_write_to(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)
    kept(directory)
    assert not list(directory.iterdir())


def test_a_link_is_not_followed(directory: Path, tmp_path: Path) -> None:
    store = kept(directory)
    path = file(directory)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert store.load(KEY) is None


def test_the_least_recently_used_goes_first(directory: Path) -> None:
    store = ExecutableStore(directory, most_bytes=800)
    for age, key in enumerate(("aa", "bb", "cc")):
        store.keep(key, KEPT)
        os.utime(directory / f"{key}.executable", ns=(age, age))
    assert store.load("aa") == KEPT
    store.worked("aa")
    store.keep("dd", KEPT)
    left = {path.stem for path in directory.glob("*.executable")}
    assert left == {"aa", "cc", "dd"}


def test_one_that_is_too_large_is_not_kept(directory: Path) -> None:
    ExecutableStore(directory, most_bytes=100).keep(KEY, KEPT)
    assert not directory.exists()


def test_one_that_no_process_has_survived_is_thrown_away(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept(directory)
    assert [ExecutableStore(directory).load(KEY) for _ in range(3)] == [KEPT, KEPT, None]
    assert "2 processes have ended before their first step with it" in caplog.text
    assert not list(directory.iterdir())
    # What is compiled then begins anew.
    assert kept(directory).load(KEY) == KEPT


def test_one_that_works_is_used_for_ever(directory: Path) -> None:
    store = kept(directory)
    for _ in range(5):
        assert store.load(KEY) == KEPT
        store.worked(KEY)


def test_no_room_on_the_disk_costs_nothing_but_the_file(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory.write_text("a file in its place")
    kept(directory)
    assert ExecutableStore(directory).load(KEY) is None
    assert "could not be kept" in caplog.text
