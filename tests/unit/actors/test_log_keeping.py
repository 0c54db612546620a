"""Logs within bounds: the oldest goes, offsets stay, whoever writes notices nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trainerd.actors.launcher.log_keeping import MOST_LOGS, bound_log, bound_run, punch
from trainerd.actors.launcher.logs import read_part, tail
from trainerd.actors.launcher.runs import RunFiles

MOST = 256 * 1024


def size_on_disk(path: Path) -> int:
    return os.stat(path).st_blocks * 512


class Writer:
    """Appends numbered lines, as a trainer's own descriptor does."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.lines = 0

    def write(self, lines: int) -> None:
        text = "".join(f"line {self.lines + each:09}\n" for each in range(lines))
        self.lines += lines
        os.write(self.descriptor, text.encode())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "1.log"


@pytest.fixture
def writer(log: Path):
    made = Writer(log)
    yield made
    os.close(made.descriptor)


LINE = len("line 000000000\n")


def no_holes(descriptor: int, length: int) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("make_hole", [punch, no_holes], ids=["holes", "no holes"])
def test_the_oldest_goes_and_what_is_left_keeps_its_offsets(log: Path, writer, make_hole) -> None:
    writer.write(100_000)
    whole = read_part(log, offset=-LINE, max_bytes=LINE)
    assert bound_log(log, MOST, make_hole=make_hole) > 0
    assert size_on_disk(log) <= MOST
    writer.write(1000)
    # A reader that had come to the end of what there was goes on exactly there.
    part = read_part(log, offset=whole.next_offset, max_bytes=LINE)
    assert part.data == b"line 000100000\n"
    assert part.offset == whole.next_offset
    end = read_part(log, offset=-LINE, max_bytes=LINE)
    assert end.data == b"line 000100999\n"
    assert end.next_offset == 101_000 * LINE
    assert tail(log).splitlines()[-1] == "line 000100999"


def test_a_reader_from_the_beginning_gets_what_is_left_without_holes(log: Path, writer) -> None:
    writer.write(100_000)
    gone = bound_log(log, MOST)
    offset, text = 0, b""
    first = -1
    while (part := read_part(log, offset=offset, max_bytes=100_000)).data:
        first = part.offset if first < 0 else first
        assert part.next_offset == part.offset + len(part.data)
        text += part.data
        offset = part.next_offset
    assert first == gone
    assert b"\0" not in text
    assert offset == 100_000 * LINE
    assert text.endswith(b"line 000099999\n")
    assert len(text) == 100_000 * LINE - gone


def test_a_follower_over_many_cuts_misses_nothing_it_keeps_up_with(log: Path, writer) -> None:
    offset, text = 0, b""
    for _ in range(60):
        writer.write(2000)
        while (part := read_part(log, offset=offset, max_bytes=0)).data:
            assert part.offset == offset
            text += part.data
            offset = part.next_offset
        bound_log(log, MOST)
        assert size_on_disk(log) <= MOST + 2000 * LINE
    assert text == b"".join(b"line %09d\n" % each for each in range(writer.lines))


def test_a_log_within_its_bound_is_left_alone(log: Path, writer) -> None:
    writer.write(100)
    assert bound_log(log, MOST) == 0
    assert read_part(log, offset=0, max_bytes=0).offset == 0


def test_other_errors_of_the_disk_are_not_taken_for_a_lack_of_holes(log: Path, writer) -> None:
    writer.write(100_000)

    def fails(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        bound_log(log, MOST, make_hole=fails)
    assert read_part(log, offset=0, max_bytes=0).offset == 0


def made(tmp_path: Path, incarnations: int, size: int) -> RunFiles:
    files = RunFiles.of(tmp_path, "r-1")
    files.make()
    for incarnation in range(1, incarnations + 1):
        files.log(incarnation).write_bytes(b"x" * size)
    return files


def test_of_all_logs_of_a_run_the_oldest_go_first(tmp_path: Path) -> None:
    files = made(tmp_path, 10, 64 * 1024)
    assert bound_run(files, 4 * 64 * 1024, alive=10) == [6, 5, 4, 3, 2, 1]
    assert sorted(files.incarnations()) == [7, 8, 9, 10]
    assert bound_run(files, 4 * 64 * 1024, alive=10) == []


def test_the_log_of_a_living_trainer_stays_and_so_does_the_newest(tmp_path: Path) -> None:
    files = made(tmp_path, 3, 64 * 1024)
    assert bound_run(files, 0, alive=2) == [1]
    assert bound_run(files, 0, alive=0) == [2]
    assert files.incarnations() == [3]


def test_a_run_that_crashes_for_ever_keeps_a_bounded_number_of_logs(tmp_path: Path) -> None:
    files = made(tmp_path, MOST_LOGS + 20, 1)
    assert len(bound_run(files, 10**9, alive=MOST_LOGS + 20)) == 20
    assert len(files.incarnations()) == MOST_LOGS
