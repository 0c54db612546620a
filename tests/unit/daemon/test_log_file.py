"""A log that cannot be written costs lines, never the daemon."""

from __future__ import annotations

import os
from pathlib import Path

from trainerd.daemon.log_file import LogFile


def test_lines_that_could_not_be_written_are_told_with_the_next_that_can(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        log = LogFile(descriptor)
        assert log.write("one\n") == 4
        kept = os.dup(descriptor)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, descriptor)
        log.write("two\n")
        log.write("three\n")
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(full)
        log.write("four\n")
        log.write("five\n")
    finally:
        os.close(descriptor)
    told = "2 log lines before this one could not be written"
    assert path.read_text().splitlines() == ["one", told, "four", "five"]


def test_a_file_begins_anew_when_it_is_full_and_the_one_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(-1, limit_bytes=100)
    log.use(path)
    for line in range(50):
        log.write(f"line {line:02}\n")
        assert path.stat().st_size <= 108 if path.exists() else line
    log.use(None)

    kept = ((tmp_path / "log.1").read_text() + path.read_text()).splitlines()
    assert kept == [f"line {line:02}" for line in range(50)][-len(kept) :]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.1"]


def test_a_file_that_cannot_be_opened_for_a_while_costs_the_lines_of_that_while(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sub" / "log"
    log = LogFile(-1)
    log.use(path)
    log.write("one\n")
    path.parent.mkdir()
    log.write("two\n")
    log.use(None)

    told = "1 log lines before this one could not be written"
    assert path.read_text().splitlines() == [told, "two"]
