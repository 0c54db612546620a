"""What a standby and its launcher agree on, and how a changed file is noticed."""

from __future__ import annotations

import os
import shutil

import pytest

from trainerd.actors.standby import blas, stamps
from trainerd.actors.standby.messages import (
    Fork,
    Forked,
    Prepare,
    Ready,
    Refused,
    Unfit,
    decoded,
    encoded,
)


@pytest.mark.parametrize(
    "message",
    [
        Fork(run="r-1", incarnation=2, launcher_pid=3),
        Ready(resident_bytes=1, took_s=0.5),
        Forked(pid=4, resident_bytes=5),
        Refused(reason="é"),
        Unfit(reason="x", lasting=True, files={"/a": None}),
    ],
)
def test_a_message_arrives_as_it_was_sent(message):
    assert decoded(encoded(message)) == message


def test_paths_and_stamps_arrive_with_the_same_elements():
    assert list(decoded(encoded(Prepare(path=("/a", "/b"), module="m"))).path) == ["/a", "/b"]
    unfit = Unfit(reason="x", lasting=True, files=stamps.stamps([__file__]))
    assert stamps.changed(decoded(encoded(unfit)).files) is None


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"kind": "Fork"}', b'{"kind": "os"}', b"\xff"]
)
def test_anything_else_is_no_message(data):
    with pytest.raises(ValueError, match="not a message"):
        decoded(data)


def test_an_untouched_file_has_not_changed(tmp_path):
    (tmp_path / "a.py").write_text("a = 1")
    taken = stamps.stamps([str(tmp_path / "a.py"), str(tmp_path / "none")])
    assert stamps.changed(taken) is None


def test_every_change_is_noticed(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("a = 1")
    taken = stamps.stamps([str(path)])
    when = path.stat()

    def restored() -> None:
        path.write_text("a = 1")
        os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))

    path.write_text("a = 22")
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert stamps.changed(taken) == str(path)
    restored()
    assert stamps.changed(taken) is None
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns + 1))
    assert stamps.changed(taken) == str(path)
    restored()
    other = tmp_path / "b.py"
    shutil.copy2(path, other)
    os.replace(other, path)
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert stamps.changed(taken) == str(path)
    path.unlink()
    assert stamps.changed(taken) == str(path)


def test_a_file_that_appears_is_a_change(tmp_path):
    taken = stamps.stamps([str(tmp_path / "later")])
    (tmp_path / "later").touch()
    assert stamps.changed(taken) == str(tmp_path / "later")


def test_openblas_has_as_many_threads_as_it_would_choose():
    cores = len(os.sched_getaffinity(0))
    assert blas.usual_threads({}) == cores
    assert blas.usual_threads({"OMP_NUM_THREADS": "3"}) == 3
    assert blas.usual_threads({"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "5"}) == 5
    assert blas.usual_threads({"OPENBLAS_NUM_THREADS": "many"}) == cores
