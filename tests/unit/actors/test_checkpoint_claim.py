"""One process saves in a directory: the second is refused, and a directory made anew is claimed."""

from __future__ import annotations

import errno
import fcntl
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainerd.actors.checkpoint_claim import Claim


def test_the_second_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    first, second = Claim(tmp_path), Claim(tmp_path)
    first.hold()
    first.hold()
    with pytest.raises(OSError, match="another process saves its checkpoints here") as raised:
        second.hold()
    assert raised.value.errno == errno.EBUSY
    first.close()
    second.hold()
    second.close()


def test_a_directory_that_was_made_anew_is_claimed_anew(tmp_path: Path) -> None:
    place = tmp_path / "checkpoints"
    place.mkdir()
    first, second = Claim(place), Claim(place)
    first.hold()
    # Kept, so that the new one cannot have its number.
    place.rename(tmp_path / "old")
    place.mkdir()
    first.hold()
    with pytest.raises(OSError, match="another process"):
        second.hold()
    shutil.rmtree(place)
    with pytest.raises(FileNotFoundError):
        first.hold()
    first.close()


def test_a_file_system_without_locks_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    claim = Claim(tmp_path)
    claim.hold()
    claim.close()
