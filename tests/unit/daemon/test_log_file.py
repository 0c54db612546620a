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
