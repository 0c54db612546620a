"""Sockets, lock, key and clock: what a daemon takes, and what it must not take away."""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainerd.daemon.clock import SystemClock
from trainerd.daemon.sockets import (
    OccupiedError,
    give_to_group,
    prepare_socket,
    take_state_directory,
)
from trainerd.daemon.tokens import Tokens
from trainerd.daemon.watchers import QUEUE_LIMIT, Watchers
from trainerd.v1 import event_pb2
from unit.daemon.house import short_directory


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_a_state_directory_has_one_owner_who_is_named_to_the_second(root: Path) -> None:
    lock = take_state_directory(root / "state")
    with pytest.raises(OccupiedError, match=rf"another daemon \(pid {os.getpid()}\) uses"):
        take_state_directory(root / "state")
    os.close(lock)
    os.close(take_state_directory(root / "state"))

    assert stat.S_IMODE((root / "state").stat().st_mode) == 0o700


def test_a_dead_socket_is_replaced_a_living_one_and_a_file_never(root: Path) -> None:
    path = root / "sub" / "s"
    assert prepare_socket(path, mode=0o750) == f"unix:{path}"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750

    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    with pytest.raises(OccupiedError, match="another process answers"):
        prepare_socket(path, mode=0o750)
    server.close()
    assert path.exists()
    prepare_socket(path, mode=0o750)
    assert not path.exists()

    path.write_text("mine")
    with pytest.raises(OccupiedError, match="is not a socket"):
        prepare_socket(path, mode=0o750)
    assert path.read_text() == "mine"


def test_a_group_is_given_what_it_may_open_or_it_is_said_why_not(root: Path) -> None:
    own = grp.getgrgid(os.getgid()).gr_name
    path = root / "sub" / "s"
    prepare_socket(path, mode=0o750, group=own)
    path.touch()
    give_to_group(path, own)
    give_to_group(path, "")
    assert (path.stat().st_gid, path.parent.stat().st_gid) == (os.getgid(), os.getgid())

    with pytest.raises(OSError, match=r"no group 'nobody-of-that-name' on this host, for .*/s"):
        give_to_group(path, "nobody-of-that-name")


def test_tokens_are_of_one_run_one_incarnation_and_one_key(root: Path) -> None:
    tokens = Tokens(root / "key")
    again = Tokens(root / "key")
    other = Tokens(root / "other")
    token = tokens.of("a-1", 1)

    assert again.valid("a-1", 1, token)
    assert not any(
        each.valid(run, incarnation, token)
        for each, run, incarnation in (
            (tokens, "a-1", 2),
            (tokens, "a", 11),
            (other, "a-1", 1),
        )
    )
    assert not tokens.valid("a-1", 1, "ü")
    assert stat.S_IMODE((root / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize("left", [b"", b"short"])
def test_a_key_that_a_crash_cut_short_is_made_anew(root: Path, left: bytes) -> None:
    (root / "key").write_bytes(left)
    (root / "key.new").write_bytes(left)
    Tokens(root / "key")

    assert len((root / "key").read_bytes()) == 32


def test_monotonic_time_continues_where_the_journal_ended() -> None:
    clock = SystemClock()
    assert 0 <= clock.now() < 60
    clock.rebase(last_now=500.0, last_wall=clock.wall() - 30.0)
    assert 530 <= clock.now() < 590
    # A wall clock that was set back tells of no time at all.
    clock.rebase(last_now=500.0, last_wall=clock.wall() + 1e6)
    assert 500 <= clock.now() < 560


def test_a_watcher_that_lags_keeps_the_newest_and_counts_the_rest() -> None:
    watchers = Watchers()
    with watchers.watch("a") as mine, watchers.watch() as everybody:
        for number in range(QUEUE_LIMIT + 5):
            watchers.tell(event_pb2.Event(sequence=number, run="a"))
        watchers.tell(event_pb2.Event(sequence=-1, run="b"))
        events, dropped = mine.take()

        assert (len(events), dropped) == (QUEUE_LIMIT, 5)
        assert events[-1].sequence == QUEUE_LIMIT + 4
        assert mine.take() == ([], 0)
        assert everybody.take()[1] == 6
    watchers.tell(event_pb2.Event(run="a"))
    assert mine.take() == ([], 0)
