"""Reading logs in parts, and the last lines for an exit record."""

from __future__ import annotations

import pytest

from trainerd.actors.launcher.logs import read_part, tail


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "1.log"
    path.write_bytes(b"0123456789")
    return path


@pytest.mark.parametrize(
    ("offset", "max_bytes", "data", "next_offset"),
    [
        (0, 0, b"0123456789", 10),
        (2, 3, b"234", 5),
        (-4, 2, b"67", 8),
        (-99, 0, b"0123456789", 10),
        (10, 0, b"", 10),
        (99, 0, b"", 10),
    ],
)
def test_a_part_is_read(log, offset, max_bytes, data, next_offset):
    part = read_part(log, offset=offset, max_bytes=max_bytes)
    assert (part.data, part.next_offset) == (data, next_offset)


def test_a_read_is_bounded(tmp_path):
    path = tmp_path / "1.log"
    path.write_bytes(b"x" * (5 * 1024 * 1024))
    assert len(read_part(path, offset=0, max_bytes=0).data) == 65_536
    assert len(read_part(path, offset=0, max_bytes=2**30).data) == 4 * 1024 * 1024


def test_the_tail_is_the_last_twenty_lines(tmp_path):
    path = tmp_path / "1.log"
    path.write_text("".join(f"line {n}\n" for n in range(100)))
    assert tail(path).splitlines() == [f"line {n}" for n in range(80, 100)]


def test_the_tail_is_at_most_four_kib_even_of_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "1.log"
    path.write_bytes(b"\xff" * 10_000 + b"\nend\n")
    assert len(tail(path).encode()) <= 4096
    assert tail(path).endswith("end")


def test_without_a_log_the_tail_is_empty(tmp_path):
    assert tail(tmp_path / "none.log") == ""
