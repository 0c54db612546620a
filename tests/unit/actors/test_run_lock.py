"""One trainer a run: who comes second waits a moment and is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainerd.actors.run_lock import RunBusy, RunLock


def test_a_second_one_is_refused(tmp_path: Path) -> None:
    lock = RunLock.take(tmp_path / "run", patience_s=0.0)
    with pytest.raises(RunBusy, match="it trains this run"):
        RunLock.take(tmp_path / "run", patience_s=0.0)
    lock.close()
    RunLock.take(tmp_path / "run", patience_s=0.0).close()


def test_it_waits_for_what_is_about_to_end(tmp_path: Path) -> None:
    first = RunLock.take(tmp_path, patience_s=0.0)
    waits: list[float] = []

    def sleep(duration_s: float) -> None:
        waits.append(duration_s)
        if len(waits) == 3:
            first.close()

    RunLock.take(tmp_path, patience_s=1.0, clock=lambda: sum(waits), sleep=sleep).close()
    assert len(waits) == 3


def test_its_patience_ends(tmp_path: Path) -> None:
    first = RunLock.take(tmp_path, patience_s=0.0)
    waits: list[float] = []
    with pytest.raises(RunBusy):
        RunLock.take(tmp_path, patience_s=1.0, clock=lambda: sum(waits), sleep=waits.append)
    assert 1.0 <= sum(waits) < 2.0
    first.close()


def test_a_directory_that_others_may_write_to_is_not_trusted(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(PermissionError, match="alone"):
        RunLock.take(place, patience_s=0.0)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to("elsewhere")
    with pytest.raises(OSError, match="run"):
        RunLock.take(tmp_path / "run", patience_s=0.0)


def test_a_directory_is_made_for_this_user_only(tmp_path: Path) -> None:
    RunLock.take(tmp_path / "run", patience_s=0.0).close()
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
